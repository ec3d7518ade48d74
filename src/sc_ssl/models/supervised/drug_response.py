"""From expression and a drug's structure to the response, on any encoder of this package."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from sc_ssl._checks import check_choice, check_share
from sc_ssl._names import as_names
from sc_ssl.data import evenly_spread, obsm_values, positions
from sc_ssl.models.base import Phase, TrainingDefaults
from sc_ssl.nn import MLP

from .drug_module import MAX_CELLS, DrugResponseModule, ridge_regression
from .encoder import OnEncoder, mean_and_sd, specification_of
from .molecules import N_BITS, drug_features, molecular_graphs, plain_drugs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from anndata import AnnData

    from sc_ssl.models.base import SSLModel

    from .molecules import Drugs


class DrugResponse(OnEncoder):
    """Predict how cells respond to drugs, ln IC50 for example, from their expression and the drugs' structure.

    A branch for the cell, on the embedding of a pretrained model or from scratch, and one for the drug, a Morgan
    fingerprint; both meet in a joint network, as in CellLM's and DeepCDR's networks. Departs from them in fingerprints by
    default instead of a graph network on the molecule, which did no better; in z-scores of each drug's responses as the
    target, so that the network learns which cells respond and not which drugs are potent, which a drug's mean predicts; in
    the level of a drug without responses, which comes from the drugs that are like it; and in a ridge regression of each
    drug on the genes, fitted beside the network on 2,000 cells at most: predictions for new cells may mix both.
    :func:`sc_ssl.tl.drug_response` does it in one call.

    Parameters
    ----------
    adata
        Cells or cell lines registered with :meth:`setup_anndata`, with at least half of the encoder's genes where there is
        one; ``input="scaled"`` for z-scores.
    registry
        Instead of ``adata``: the registry of a saved model.
    drugs
        Each drug's SMILES by its name; or a table of features, drugs × features. Drugs without responses are left out.
    response_key
        Name in ``obsm`` of the responses, (n_obs, m): a DataFrame with the drugs' names; NaN where not measured.
    encoder
        A model of this package, which stays as it is: its encoder is copied. ``None`` starts from scratch.
    freeze_encoder
        Train all but the encoder.
    n_hidden, n_latent
        Widths of the encoder's hidden layers and of its embedding, from scratch.
    drug_encoder
        What the drug branch reads: the ``"fingerprint"``, or the features given; or, by a graph network (``"gin"``), the
        atoms and bonds, as CellLM's authors do, which needs torch-geometric too: ``pip install "sc_ssl[drug,ppi]"``.
    n_drug_hidden
        Width of the drug branch on fingerprints.
    gene_dropout_rate
        Share of the genes that training hides from scratch, in [0, 1).
    dropout_rate
        Of the encoder's hidden units from scratch while training, in [0, 1).

    References
    ----------
    Zhao, Zhang & Nie (2023), arXiv 2306.04371. Liu et al. (2020), DeepCDR, Bioinformatics 36:i911. Rogers & Hahn
    (2010), Extended-connectivity fingerprints, J. Chem. Inf. Model. 50:742.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> adata.obsm["ln_ic50"] = pd.DataFrame(np.log1p(adata.X[:, :2].toarray()), adata.obs_names, ["first", "second"])
    >>> sc_ssl.models.DrugResponse.setup_anndata(adata)
    >>> model = sc_ssl.models.DrugResponse(adata, drugs=pd.DataFrame(np.eye(2), ["first", "second"]))
    >>> model.train()
    >>> model.get_prediction(adata[:3].copy()).shape
    (3, 2)
    """

    training = TrainingDefaults(
        max_epochs=40,
        batch_size=64,
        min_steps=200,
        plan={"lr": 1e-3, "weight_decay": 1.0, "warmup_rate": 0.05},
        gradient_clip_val=1.0,
    )
    module: DrugResponseModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        drugs: Drugs,
        response_key: str = "ln_ic50",
        encoder: SSLModel | dict[str, Any] | None = None,
        freeze_encoder: bool = False,
        n_hidden: Sequence[int] = (2048,),
        n_latent: int = 128,
        drug_encoder: Literal["fingerprint", "gin"] = "fingerprint",
        n_drug_hidden: int = 128,
        gene_dropout_rate: float = 0.5,
        dropout_rate: float = 0.5,
    ) -> None:
        super().__init__(adata, registry)
        drugs = plain_drugs(drugs)
        values = None if adata is None else self.read_responses(adata, drugs, response_key)
        if values is not None:
            drugs = {name: drugs[name] for name in values}
        check_choice("drug_encoder", drug_encoder, ("fingerprint", "gin"))
        graphs, n_atom_values = molecular_graphs(drugs) if drug_encoder == "gin" else (None, ())
        sizes: tuple[Any, ...] = (len(self.var_names), n_hidden, n_latent)
        source = self._encoder(
            encoder,
            lambda: nn.Sequential(nn.Dropout(gene_dropout_rate), MLP(*sizes, norm="none", dropout_rate=dropout_rate)),
            freeze_encoder=freeze_encoder,
        )
        encoder = specification_of(encoder)
        self.module = DrugResponseModule(
            encoder=source,
            feature_mf=_features(drugs, saved=values is None),
            graphs=graphs,
            n_atom_values=n_atom_values,
            n_drug_hidden=n_drug_hidden,
            n_latent=n_latent,
            freeze_encoder=freeze_encoder,
        )
        if values is not None:
            mean_m, sd_m = mean_and_sd(values)
            self.module.mean_m.copy_(mean_m)
            self.module.sd_m.copy_(sd_m)
        self.drug_names = list(drugs)
        self.response_key = response_key
        self.init_params_ = self._get_init_params(locals())

    @staticmethod
    def read_drugs(
        drugs: Drugs, drug_encoder: Literal["fingerprint", "gin"] = "fingerprint"
    ) -> dict[str, str] | dict[str, list[float]]:
        """Drugs as plain data, name → SMILES or name → features, after each was read as the model does.

        Parameters
        ----------
        drugs, drug_encoder
            As in the constructor.

        Raises
        ------
        ImportError
            A package that reads SMILES is missing.
        TypeError
            Neither a mapping nor a table.
        ValueError
            A SMILES that rdkit rejects; features of unequal length or that are not finite; names that are not unique.
        """
        plain = plain_drugs(drugs)
        drug_features(plain)
        if drug_encoder == "gin":
            molecular_graphs(plain)
        return plain

    @staticmethod
    def read_responses(
        adata: AnnData, drugs: Iterable[str], response_key: str = "ln_ic50", *, min_cells: int = 2
    ) -> pd.DataFrame:
        """``obsm[response_key]`` as a table, cells × those of the drugs that it has; NaN where not measured.

        Parameters
        ----------
        adata
            Cells.
        drugs
            Names of the drugs.
        response_key
            Name in ``obsm``.
        min_cells
            Cells in which each drug must have a response.

        Raises
        ------
        KeyError
            No such key.
        ValueError
            An array without names; a drug that is not among the drugs; values that are infinite or too few.
        """
        drugs = list(as_names(list(drugs)))
        table = adata.obsm.get(response_key)
        if table is not None and not isinstance(table, pd.DataFrame):
            raise ValueError(
                f"obsm[{response_key!r}] is an array, which does not show which column is which drug; make it a table: "
                f"adata.obsm[{response_key!r}] = pd.DataFrame(adata.obsm[{response_key!r}], index=adata.obs_names, "
                "columns=names)."
            )
        named = drugs if table is None else list(as_names(list(table)))
        unknown = [name for name in named if name not in set(drugs)]
        if unknown:
            raise ValueError(
                f"obsm[{response_key!r}] has responses to {len(unknown)} drugs that are not among the {len(drugs)} drugs "
                f"given, for example {unknown[0]!r}; give their SMILES or leave the columns out."
            )
        return obsm_values(adata, response_key, named, min_cells=min_cells)

    def get_prediction(
        self,
        adata: AnnData | None = None,
        drugs: Drugs | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        linear_share: float = 0.0,
    ) -> pd.DataFrame:
        """Predict the response of cells to drugs.

        Parameters
        ----------
        adata, indices, batch_size
            Cells, as in :meth:`get_latent_representation`; responses are not needed.
        drugs
            Drugs as in the constructor, with responses or not; by default those that the model was trained on.
        linear_share
            Share of the prediction that comes from the ridge regression, in [0, 1], the rest from the network. Of lines
            that were trained on the network knows more; for new ones the mean of both (0.5) is the best.

        Returns
        -------
        Cells × drugs, in the units of the training responses.
        """
        self._check_if_trained(warn=False)
        check_share("linear_share", linear_share)
        if drugs is None:
            predict = partial(self.module.predict, linear_share=linear_share)
            columns = self.drug_names
        else:
            new = plain_drugs(drugs)
            columns = list(new)
            feature_kf = torch.as_tensor(drug_features(new), device=self.device)
            if feature_kf.shape[1] != self.module.feature_mf.shape[1]:
                raise ValueError(
                    f"the model knows {self.module.feature_mf.shape[1]} features of a drug, found {feature_kf.shape[1]}."
                )
            graphs = None if self.module.graphs is None else molecular_graphs(new)[0].to(self.device)
            predict = partial(self.module.predict_new, feature_kf=feature_kf, graphs=graphs, linear_share=linear_share)
        values = self._map_cells(predict, adata, indices, batch_size)
        names = (self.adata if adata is None else adata).obs_names
        return pd.DataFrame(values, index=names[positions(len(names), indices)], columns=columns)

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """One, on the cells with their responses beside them, after the ridge regression of these."""
        cells = self._own_cells()
        response_nm = self.read_responses(self.adata, self.drug_names, self.response_key).to_numpy(
            np.float32, copy=True
        )
        z_nm = (response_nm - self.module.mean_m.numpy(force=True)) / self.module.sd_m.numpy(force=True)
        with_response = np.flatnonzero(np.isfinite(z_nm).any(axis=1))
        index = with_response[evenly_spread(len(with_response), MAX_CELLS)]
        linear_gm, intercept_m = ridge_regression(self._map_cells(self.module.normalize, None, index), z_nm[index])
        self.module.linear_gm.copy_(torch.as_tensor(linear_gm))
        self.module.intercept_m.copy_(torch.as_tensor(intercept_m))
        yield Phase(self.module, cells.beside(response=response_nm), self.training, max_epochs)


def _features(drugs: Mapping[str, Any], *, saved: bool) -> torch.Tensor:
    """(m, f); of a saved model they come with its tensors."""
    if not saved:
        return torch.as_tensor(drug_features(drugs))
    first = next(iter(drugs.values()))
    return torch.zeros(len(drugs), N_BITS if isinstance(first, str) else len(first))
