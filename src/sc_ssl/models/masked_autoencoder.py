"""The masked autoencoder of Richter et al. (2024), with random and biological masks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl import _compat
from sc_ssl._checks import check_choice
from sc_ssl.data import find_programs, obs_categories, positions, program_members, regulon_members
from sc_ssl.losses import count_nll, scored_weight, squared_error
from sc_ssl.metrics import explained_variance
from sc_ssl.nn import MLP, CountDecoder, CountParameters, LogNormalize
from sc_ssl.train import seeded
from sc_ssl.views import GeneMasking, GenePrograms, OneProgram, ProgramToRegulator, RandomGenes

from .base import Phase, SSLModel, SSLModule, TrainingDefaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from anndata import AnnData


MASKS = ("random_genes", "gene_programs", "one_program", "program_to_regulator")
LIKELIHOODS = ("mse", "nb", "zinb", "poisson")
#: the published network, activation and dropout; the optimiser stands in :meth:`MaskedAutoencoder.paper`
PAPER: dict[str, Any] = {
    "n_hidden": (512, 512, 256, 256),
    "n_latent": 64,
    "norm": "none",
    "activation": "selu",
    "dropout_rate": 0.1,
    "weigh_genes": False,
}


class MaskedAutoencoderModule(SSLModule):
    """Encode the visible genes of a cell; reconstruct the scored ones."""

    def __init__(
        self,
        *,
        normalize: LogNormalize,
        masking: GeneMasking,
        encoder: MLP,
        decoder: MLP | CountDecoder,
        likelihood: str,
        n_batch: int,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.masking = masking
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.n_batch = n_batch
        # at the start every gene is decoded at its mean over the training cells
        if isinstance(decoder, CountDecoder):
            decoder.start_at(torch.expm1(normalize.mean_bg[0]))
        else:
            nn.init.zeros_(decoder[-1].weight)

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The bottleneck (n, n_latent), every gene visible."""
        return self.encoder(self.normalize(cells))

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The error over the genes that the mask scores; each cell has the same weight however many these are."""
        x_ng = self.normalize(cells)
        visible_ng, scored_ng = self.masking(len(x_ng))
        if "measured" in cells:  # what was not measured is no zero
            scored_ng = scored_ng & cells["measured"]
        decoded = self.decode(self.encoder(self.masking.show(x_ng, visible_ng)), cells)
        weight_ng = scored_weight(scored_ng)
        if isinstance(decoded, CountParameters):
            return {self.likelihood: count_nll(cells["X"], *decoded, weight_ng)}
        return {"mse": squared_error(decoded * self.normalize.weight_g, x_ng, weight_ng)}

    def decode(self, z_nd: Tensor, cells: Mapping[str, Tensor]) -> Tensor | CountParameters:
        """Z-scores (n, g), not weighed, or the distribution of the counts; of the cells' own batch and library size."""
        if self.n_batch > 1:  # a batch that the model has not seen, code −1, is none of them
            batch_nb = F.one_hot(cells["batch"].flatten() + 1, self.n_batch + 1)[:, 1:]
            z_nd = torch.cat([z_nd, batch_nb.to(z_nd.dtype)], dim=1)
        if isinstance(self.decoder, CountDecoder):
            return self.decoder(z_nd, cells["library_size"] / self.normalize.target_sum)
        return self.decoder(z_nd)

    def reconstruct(self, cells: Mapping[str, Tensor], *, masked: bool = False) -> Tensor:
        """Log-expression (n, g) as decoded; with a mask, NaN where the mask does not score."""
        x_ng, scored_ng = self.normalize(cells), None
        if masked:
            visible_ng, scored_ng = self.masking(len(x_ng))
            x_ng = self.masking.show(x_ng, visible_ng)
        decoded = self.decode(self.encoder(x_ng), cells)
        if isinstance(decoded, CountParameters):
            log_ng = torch.log1p(decoded.expected_ng * (self.normalize.target_sum / cells["library_size"]))
        else:
            log_ng = self.normalize.unstandardize(decoded, cells)
        return log_ng if scored_ng is None else log_ng.masked_fill(~scored_ng, torch.nan)


class MaskedAutoencoder(SSLModel):
    """A masked autoencoder: reconstruct the masked genes of a cell from its visible ones; key ``X_mae``.

    The mask is drawn for each cell alone, and embedding sees every gene. With ``batch_key`` the batch is an input of the
    decoder, so that the embedding need not hold it.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`.
    registry
        Instead of ``adata``: the registry of a saved model.
    mask
        ``"random_genes"``: hide random genes and reconstruct them; ``"gene_programs"``: hide whole programmes;
        ``"one_program"``: show one programme and reconstruct it; ``"program_to_regulator"``: show the targets of a
        transcription factor and reconstruct the factor.
    mask_rate
        Share of the genes that is hidden, in (0, 1): of all genes, of those in any programme, or of the one programme
        (where 0 is allowed too). ``"program_to_regulator"`` has none.
    programs
        For all masks but the first: path of a GMT file, ``{name: genes}``, a table with the columns ``source`` and
        ``target``, or a key of ``adata.varm`` or ``adata.uns``. Those with under five measured genes are left out.
        Regulons are named by their factor (``SP1``), or have it in their name (``GGGCGGR_SP1_Q6``).
    leave_out_regulons
        Leave out the regulons whose factor is not among the genes, as most of a large collection are; else an error.
    likelihood
        ``"mse"`` of z-scores; ``"nb"``, ``"zinb"`` or ``"poisson"`` of raw counts.
    n_hidden
        Widths of the encoder's hidden layers; the decoder's are the same in reverse.
    n_latent
        Dimension of the embedding.
    norm
        ``"layer"`` or ``"none"`` in the hidden layers.
    activation
        ``"relu"`` or ``"selu"``.
    dropout_rate
        Of hidden units while training, in [0, 1).
    weigh_genes
        Multiply z-scores by :func:`~sc_ssl.data.gene_weights`; log-normalised input never is.

    Notes
    -----
    Differences from the authors' code. Defaults are smaller and were chosen on development data; :meth:`paper` gives the
    published network.

    * Masks: the same for a whole minibatch there; here they differ between cells, and are switched off for embedding and
      reconstruction. Two of the four masks never ran there.
    * Loss: here divided by the number of scored genes.
    * Output: a sigmoid there, which cannot exceed 1; here linear. Likelihoods are of log-values there; here of raw counts.
    * Activation: two kinds there; here one throughout.
    * Input: here z-scored genes that are weighed by their variance beyond chance, and layer norm.

    References
    ----------
    Richter et al. (2024), Delineating the effective use of self-supervised learning in single-cell genomics, Nature
    Machine Intelligence 7:68.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.MaskedAutoencoder.setup_anndata(adata)
    >>> model = sc_ssl.models.MaskedAutoencoder(adata)
    >>> model.train()
    >>> model.get_latent_representation().shape
    (700, 64)
    >>> model.get_reconstruction().shape
    (700, 765)
    """

    reads = {"programs": ("varm", "uns")}
    training = TrainingDefaults(
        max_epochs=60,
        batch_size=256,
        min_steps=400,
        plan={"lr": 1e-3, "weight_decay": 0.01, "warmup_rate": 0.05},
        gradient_clip_val=1.0,
    )
    module: MaskedAutoencoderModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        mask: Literal["random_genes", "gene_programs", "one_program", "program_to_regulator"] = "random_genes",
        mask_rate: float = 0.5,
        programs: str | Path | Mapping[str, Sequence[str]] | pd.DataFrame | None = None,
        leave_out_regulons: bool = False,
        likelihood: Literal["mse", "nb", "zinb", "poisson"] = "mse",
        n_hidden: Sequence[int] = (512, 256),
        n_latent: int = 64,
        norm: Literal["layer", "none"] = "layer",
        activation: Literal["relu", "selu"] = "relu",
        dropout_rate: float = 0.0,
        weigh_genes: bool = True,
    ) -> None:
        super().__init__(adata, registry)
        check_choice("likelihood", likelihood, LIKELIHOODS)
        if likelihood != "mse" and self.setup_arguments["input"] != "counts":
            raise ValueError(f"likelihood={likelihood!r} models raw counts, found input='log1p'; take 'mse'.")
        programs = None if programs is None else find_programs(programs, adata)
        n_genes, n_batch = len(self.var_names), self.summary_stats.n_batch
        # of several batches the decoder takes a one-hot code beside the embedding
        n_coded = n_latent + (n_batch if n_batch > 1 else 0)
        layers: dict[str, Any] = {"norm": norm, "activation": activation, "dropout_rate": dropout_rate}
        decoder: MLP | CountDecoder
        if likelihood == "mse":
            decoder = MLP(n_coded, n_hidden[::-1], n_genes, **layers)
        else:
            counts = {
                "dispersion_per": None if likelihood == "poisson" else "gene",
                "zero_inflated": likelihood == "zinb",
            }
            decoder = CountDecoder(n_coded, n_hidden[::-1], n_genes, **counts, **layers)
        self.module = MaskedAutoencoderModule(
            normalize=self._normalizer(weigh_genes=weigh_genes),
            masking=build_masking(mask, mask_rate, programs, self.var_names, leave_out_regulons=leave_out_regulons),
            encoder=MLP(n_genes, n_hidden, n_latent, **layers),
            decoder=decoder,
            likelihood=likelihood,
            n_batch=n_batch,
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def paper(cls, adata: AnnData, **options: Any) -> Self:
        """The published network and optimiser, on z-scored instead of log-normalised genes.

        512-512-256-256-64 and its mirror, SELU, dropout 0.1, AdamW 1e-3 with a decay of 0.01, minibatches of 8,192. The
        paper trained on 20 million cells for days; the rate here falls over the run instead of by 0.9 every two epochs.

        Parameters
        ----------
        adata
            Cells registered with :meth:`setup_anndata`; the paper took 19,331 genes.
        **options
            ``mask``, ``mask_rate``, ``programs`` or ``likelihood``.
        """
        model = cls(adata, **(PAPER | options))
        model.training = TrainingDefaults(
            max_epochs=1000, batch_size=8192, plan={"lr": 1e-3, "weight_decay": 0.01}, gradient_clip_val=1.0
        )
        return model

    def get_reconstruction(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        masked: bool = False,
        random_state: int | np.random.Generator | None = 0,
    ) -> np.ndarray:
        """Log-normalised expression as decoded, ``log1p(target_sum · x / library)``.

        Under a likelihood of counts, the logarithm of the expected counts at that library size.

        Parameters
        ----------
        adata, indices, batch_size
            Cells, as in :meth:`get_latent_representation`.
        masked
            Show the encoder what the mask of training shows; entries that the mask does not score are NaN.
        random_state
            Seed of the masks; the caller's random state is left alone.

        Returns
        -------
        (n, n_genes), float32, in the order of the model's genes.

        Raises
        ------
        ValueError
            Cells of a batch that the decoder was not trained on.
        """
        decode = partial(self.module.reconstruct, masked=masked)
        return self._map_decoded(decode, adata, indices, batch_size, random_state, finite=not masked)

    def get_explained_variance(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        masked: bool = False,
        weighted: bool = True,
        random_state: int | np.random.Generator | None = 0,
    ) -> float:
        """Share of the variance of log-normalised expression that :meth:`get_reconstruction` explains, at most 1.

        Parameters
        ----------
        adata, indices, batch_size
            Cells, as in :meth:`get_latent_representation`; best those that the model was not trained on.
        masked
            Of what the mask of training scores, from what it shows; else of all genes from all of them.
        weighted
            Each gene by its variance, else all genes alike: :func:`sc_ssl.metrics.explained_variance`.
        random_state
            Seed of the masks; the caller's random state is left alone.

        Raises
        ------
        ValueError
            Cells of a batch that the decoder was not trained on.
        """

        def measured_and_decoded(cells: Mapping[str, Tensor]) -> Tensor:
            measured_ng = self.module.normalize.log_expression(cells)
            return torch.stack([measured_ng, self.module.reconstruct(cells, masked=masked)], dim=1)

        both_n2g = self._map_decoded(measured_and_decoded, adata, indices, batch_size, random_state, finite=not masked)
        return explained_variance(both_n2g[:, 0], both_n2g[:, 1], weighted=weighted)

    def _map_decoded(
        self,
        function: Callable[[Mapping[str, Tensor]], Tensor],
        adata: AnnData | None,
        indices: Sequence[int] | np.ndarray | None,
        batch_size: int | None,
        random_state: int | np.random.Generator | None,
        *,
        finite: bool,
    ) -> np.ndarray:
        """Apply what decodes to cells of batches that the decoder knows, masks drawn by the seed.

        With a mask, entries that it does not score are NaN.
        """
        self._check_if_trained(warn=False)
        self._check_batches(self._adata if adata is None else adata, "it can only embed", indices)
        with seeded(random_state):
            return self._map_cells(function, adata, indices, batch_size, finite=finite)

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """One, on cells of batches that the decoder knows."""
        self._check_batches(self._adata, "it cannot be trained on them, only embed")
        yield from super().phases(max_epochs)

    def _check_batches(
        self, adata: AnnData | None, verdict: str, indices: Sequence[int] | np.ndarray | None = None
    ) -> None:
        key = self.setup_arguments["batch_key"]
        if adata is None or self.summary_stats.n_batch < 2:
            return
        names = obs_categories(adata, key)[positions(adata.n_obs, indices)].unique()
        unseen = names[~names.isin(_compat.registered_batches(self.registry_))]
        if len(unseen):
            raise ValueError(
                f"the decoder was built for other batches than {', '.join(map(repr, unseen[:5]))} in obs[{key!r}], so that "
                f"{verdict} their cells; train a new model on all."
            )


def build_masking(
    mask: str,
    mask_rate: float,
    programs: Mapping[str, Sequence[str]] | None,
    genes: Sequence[str],
    *,
    leave_out_regulons: bool = False,
) -> GeneMasking:
    """The mask of this name over these genes."""
    check_choice("mask", mask, MASKS)
    if mask == "random_genes":
        if programs is not None:
            raise ValueError("mask='random_genes' reads no programs; name a mask that does, or leave out programs.")
        return RandomGenes(len(genes), mask_rate)
    if programs is None:
        raise ValueError(f"mask={mask!r} needs programs: a GMT file, a dictionary or a key of varm or uns.")
    if mask == "program_to_regulator":
        _, member_pg, regulator_p = regulon_members(programs, genes, leave_out=leave_out_regulons)
        return ProgramToRegulator(torch.as_tensor(member_pg), torch.as_tensor(regulator_p))
    member_pg = torch.as_tensor(program_members(programs, genes)[1])
    return GenePrograms(member_pg, mask_rate) if mask == "gene_programs" else OneProgram(member_pg, mask_rate)
