"""What MaskSC predicts at hidden patches: places in the neighbour graph, principal components, a frozen teacher's features."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn

from sc_ssl._checks import check_count, with_defaults
from sc_ssl.data import nearest_cells
from sc_ssl.models.base import Phase
from sc_ssl.models.contrastive_sc import ContrastiveSC, ContrastiveSCModule

from .patches import cross_context

if TYPE_CHECKING:
    from sc_ssl.data import Cells
    from sc_ssl.models.base import SSLModel
    from sc_ssl.nn import LogNormalize


Target = Literal["diffusion+components", "diffusion", "components", "global", "cross", "patch", "raw"]
#: targets that are found once for all cells, from their neighbour graph
OF_THE_GRAPH = ("diffusion", "diffusion+components")
#: targets that no contrastive teacher gives
WITHOUT_TEACHER = (*OF_THE_GRAPH, "components", "raw")
#: steps of the random walk; after them only what separates groups of cells is left
N_STEPS = 128
#: eigenvectors of the neighbour graph; the walk leaves few of them
N_DIFFUSION = 50
#: principal components beside them, and the root mean square of their length where the place has 1
N_LEADING, LEADING_LENGTH = 20, 0.5


def graph_dimensions(target: Target, n_latent: int | None, *, at_most: int) -> tuple[int, int]:
    """Dimensions of the place and of the leading components, of which there are ``at_most`` so many; in all ``n_latent``."""
    if target == "diffusion+components":
        rate = N_LEADING / (N_DIFFUSION + N_LEADING)
        n_leading = min(N_LEADING if n_latent is None else round(rate * n_latent), at_most)
    else:
        n_leading = 0
    return (N_DIFFUSION if n_latent is None else n_latent - n_leading), n_leading


def check_n_latent(n_latent: int | None, target: Target, readout: str) -> None:
    """An error for a dimension of the embedding where something else decides it."""
    if n_latent is None:
        return
    check_count("n_latent", n_latent)
    if readout != "prediction":
        raise ValueError(
            f"with readout={readout!r} the embedding has n_hidden dimensions; give n_hidden, not n_latent."
        )
    if target not in (*OF_THE_GRAPH, "components"):
        what = "a patch has genes" if target == "raw" else "the teacher's n_latent"
        raise ValueError(f"with target={target!r} the embedding has as many dimensions as {what}; leave out n_latent.")


def graph_position(components_nc: np.ndarray, n_neighbors: int, dimensions: tuple[int, int]) -> np.ndarray:
    """Each cell's place in the graph of these components and, beside it, the leading ones, as of :func:`graph_dimensions`.

    The place is as of :func:`diffusion_components`, with a mean square of 1 whatever the number of eigenvectors.
    """
    n_place, n_leading = dimensions
    place_nd = diffusion_components(components_nc, n_neighbors, n_place)
    # the leading components, scaled as a whole to the root mean square length that they have beside the place
    leading_nd = components_nc[:, :n_leading]
    length = max(float(np.sqrt((leading_nd**2).sum(axis=1).mean())), 1e-12) if n_leading else 1.0
    return np.hstack([place_nd, leading_nd * (LEADING_LENGTH / length)]) * n_place**0.5


def on_the_sphere(position_nd: Tensor, n_place: int) -> Tensor:
    """Predicted positions with the place as a unit vector, and the components in the same scale."""
    place_nd, leading_nd = position_nd[:, :n_place], position_nd[:, n_place:]
    return torch.cat([F.normalize(place_nd, dim=1), leading_nd / n_place**0.5], dim=1)


def diffusion_components(x_nc: np.ndarray, n_neighbors: int, n_components: int) -> np.ndarray:
    """Unit vectors of the cells in the leading eigenvectors of a random walk on their neighbours, (n, n_components).

    Cells are joined by the share of neighbours that they have in common (Jaccard index of their ``n_neighbors`` nearest
    cells by cosine). An eigenvector of the symmetric walk ``D^-½ W D^-½`` weighs ``eigenvalue^128``. The minimum of the
    spectral contrastive loss spans these eigenvectors when neighbours are its positives (HaoChen et al. 2021, Provable
    guarantees for self-supervised deep learning with spectral contrastive loss); the walk and the sphere make of them
    groups that are tight, however large, and equally far apart.

    Parameters
    ----------
    x_nc
        Features of cells, (n, c).
    n_neighbors
        Neighbours a cell.
    n_components
        Number of eigenvectors; what the data do not have is 0.
    """
    # the walk on neighbours by cosine, made lazy (half of its steps stay) so that no eigenvalue is negative
    unit_nc = x_nc / np.maximum(np.linalg.norm(x_nc, axis=1, keepdims=True), 1e-12)
    walk = _symmetric_walk(shared_neighbors(nearest_cells(unit_nc, n_neighbors)))
    lazy = 0.5 * (walk + sparse.identity(len(x_nc), format="csr"))
    n_found = min(n_components, len(x_nc) - 1)
    vectors, values, _ = randomized_svd(lazy, n_found, n_iter=20, random_state=0)
    # the lazy walk's eigenvalue v is 2 v − 1 of the walk itself; many steps leave those near 1
    components = np.zeros((len(x_nc), n_components), np.float32)
    components[:, :n_found] = vectors * np.clip(2 * values - 1, 0, 1) ** N_STEPS
    return components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-12)


def shared_neighbors(neighbors: np.ndarray) -> sparse.csr_matrix:
    """Jaccard index of the neighbourhoods of every two cells that share a neighbour; each cell its own neighbour."""
    # one row a cell, 1 at each of its neighbours; the product counts the neighbours that two cells share
    n, k = neighbors.shape
    member = sparse.csr_matrix(
        (np.ones(n * k, np.float32), neighbors.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n)
    )
    member.sum_duplicates()
    member.data[:] = 1
    shared = (member @ member.T).tocsr()
    # shared over all neighbours of the two: both have k
    shared.data /= 2 * k - shared.data
    # what two cells share by chance would join everything to everything
    shared.data[shared.data <= 1 / 15] = 0
    shared.eliminate_zeros()
    return shared


def _symmetric_walk(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """``D^-½ W D^-½``."""
    scale = sparse.diags(np.asarray(weights.sum(axis=1)).ravel() ** -0.5)
    return (scale @ weights @ scale).tocsr()


#: more cells than this do not change the leading components; evenly spread ones are taken
MAX_CELLS = 20_000
#: a component of standard deviation s is scaled to s to the power of 1 − this
WHITENING = 0.25


class FrozenComponents(nn.Module):
    """Principal components of a cell's weighed z-scores, a quarter of the way to equal variance.

    Components of equal variance (the limit that contrastive features come close to) put a batch or a cell's depth on a
    par with its type; bare components leave subtle types to the noise.

    Parameters
    ----------
    n_genes, n_components
        g and c; components that the data do not have are 0.
    """

    loading_gc: Tensor

    def __init__(self, n_genes: int, n_components: int) -> None:
        super().__init__()
        self.n_features = min(n_components, n_genes)
        self.register_buffer("loading_gc", torch.zeros(n_genes, self.n_features))

    def fit(self, x_ng: Tensor) -> None:
        """Find the components of these cells."""
        found = PCA(min(self.n_features, len(x_ng) - 1), svd_solver="randomized", random_state=0).fit(x_ng.numpy())
        # components of standard deviation sd^(1 − WHITENING), then together to a mean variance of 1
        sd_c = np.sqrt(np.maximum(found.explained_variance_, 1e-12))
        loading_cg = found.components_ * sd_c[:, None] ** -WHITENING
        loading_cg /= np.sqrt(np.mean((sd_c ** (1 - WHITENING)) ** 2))
        self.loading_gc.zero_()
        self.loading_gc[:, : len(sd_c)] = torch.as_tensor(loading_cg.T)

    def forward(self, x_ng: Tensor, patch_ntp: Tensor) -> Tensor:
        """Components of whole cells, (n, 1, c), with a mean variance of 1."""
        return (x_ng @ self.loading_gc)[:, None]  # (n, g) @ (g, c) → (n, c) → (n, 1, c)


class FrozenTeacher(nn.Module):
    """Features of whole cells or of patches from a contrastive encoder; never trained as part of this.

    Parameters
    ----------
    contrastive
        Contrastive module over the same genes.
    patch_genes_tp
        Positions of each patch's genes, −1 for none.
    context_tt
        True where patch j belongs to what the teacher sees for patch i; ``None`` where it sees the whole cell.
    is_trained
        Whether it is trained already.
    """

    is_trained: Tensor
    mean_td: Tensor
    sd_td: Tensor
    patch_genes_tp: Tensor
    context_tt: Tensor | None

    def __init__(
        self,
        contrastive: ContrastiveSCModule,
        patch_genes_tp: Tensor,
        context_tt: Tensor | None,
        *,
        is_trained: bool = False,
    ) -> None:
        super().__init__()
        self.contrastive = contrastive.requires_grad_(False).eval()
        last = contrastive.encoder[-1]
        self.n_features = int(last.out_features)
        self.register_buffer("is_trained", torch.tensor(is_trained))
        self.register_buffer("patch_genes_tp", patch_genes_tp)
        self.register_buffer("context_tt", context_tt)
        shape = (1 if context_tt is None else len(patch_genes_tp), self.n_features)
        self.register_buffer("mean_td", torch.zeros(shape))
        self.register_buffer("sd_td", torch.ones(shape))

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Always in eval mode: no dropout, batch norm fixed."""
        return super().train(False)

    @contextmanager
    def unfrozen(self) -> Iterator[ContrastiveSCModule]:
        """The encoder, trainable inside the block."""
        try:
            yield self.contrastive.requires_grad_(True)
        finally:
            self.contrastive.requires_grad_(False).eval()

    def forward(self, x_ng: Tensor, patch_ntp: Tensor) -> Tensor:
        """Features (n, t, c) of each patch with its context, or (n, 1, c) of whole cells; standardised."""
        return (self._features(x_ng, patch_ntp) - self.mean_td) / self.sd_td

    def fit_scale(self, minibatches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Measure mean and sd per patch and dimension: the part that all cells share does not describe any of them."""
        n, total, squares = 0, torch.zeros_like(self.mean_td), torch.zeros_like(self.mean_td)
        for x_ng, patch_ntp in minibatches:
            features = self._features(x_ng, patch_ntp)
            n, total, squares = n + len(features), total + features.sum(0), squares + features.square().sum(0)
        self.mean_td.copy_(total / n)
        self.sd_td.copy_((squares / n - self.mean_td.square()).clamp(min=1e-12).sqrt())

    def _features(self, x_ng: Tensor, patch_ntp: Tensor) -> Tensor:
        if self.context_tt is None:
            return F.normalize(self.contrastive.encoder(x_ng), dim=1)[:, None]
        # The first layer is linear: its output for a set of patches is the sum of those for each. So each patch goes
        # through it once, and patches are summed over their context, instead of t masked cells going through in full.
        first, *rest = self.contrastive.encoder
        # masked cells are scaled by the inverse of the share that is visible, as in the teacher's training; (t, 1)
        scale = len(self.context_tt) / self.context_tt.sum(dim=1)[:, None]
        # (g, h) and a row of 0 for slots without a gene, at −1 → (t, p, h)
        weight_tph = torch.cat([first.weight.T, first.weight.new_zeros(1, first.out_features)])[self.patch_genes_tp]
        h_nth = torch.einsum("ntp,tph->nth", patch_ntp, weight_tph)
        h_nth = torch.einsum("ij,njh->nih", self.context_tt.to(h_nth.dtype), h_nth) * scale + first.bias
        # the other layers see a patch as a cell: (n, t, h) → (n · t, h), and back to (n, t, c)
        h = h_nth.flatten(0, 1)
        for layer in rest:
            h = layer(h)
        return F.normalize(h, dim=1).view(*h_nth.shape[:2], -1)


def build_frozen(
    model: SSLModel,
    target: Target,
    teacher: ContrastiveSC | Mapping[str, Any] | None,
    *,
    normalize: LogNormalize,
    patch_genes_tp: Tensor,
    n_components: int,
) -> FrozenComponents | FrozenTeacher | None:
    """The encoder whose features are the target or give it; still to be fitted, unless it is a given teacher."""
    if target == "raw":
        return None
    if target in WITHOUT_TEACHER:
        return FrozenComponents(len(model.var_names), n_components)
    frozen = build_teacher(model, teacher, target, patch_genes_tp)
    frozen.contrastive.normalize.load_state_dict(normalize.state_dict())
    return frozen


def check_teacher(model: SSLModel, teacher: ContrastiveSC | Mapping[str, Any] | None, target: Target) -> None:
    """Refuse a given teacher that the target does not need, or that has other genes, batches or input than the model."""
    if not isinstance(teacher, ContrastiveSC):
        return
    if target in WITHOUT_TEACHER:
        raise ValueError(f"target={target!r} needs no teacher; leave it out, or take target='global' or 'cross'.")
    if not teacher.is_trained_:
        raise ValueError("the teacher must be trained; call its train() first.")
    genes = model.var_names
    if teacher.var_names != genes:
        raise ValueError(
            f"the teacher must have the model's {len(genes)} genes in the same order, found "
            f"{len(teacher.var_names)} genes of its own; set both up with the same AnnData."
        )
    theirs = teacher.summary_stats.n_batch, teacher.setup_arguments["input"]
    ours = model.summary_stats.n_batch, model.setup_arguments["input"]
    if theirs != ours:
        raise ValueError(f"the teacher must have the model's number of batches and input {ours}, found {theirs}.")


def teacher_settings(teacher: ContrastiveSC | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The constructor's arguments of a teacher, as plain data; ``None`` where nothing is given."""
    if teacher is None or isinstance(teacher, ContrastiveSC):
        return None if teacher is None else teacher.plain_init_params()
    known = inspect.signature(ContrastiveSC).parameters.values()
    return with_defaults("teacher", teacher, {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY})


def build_teacher(
    model: SSLModel, teacher: ContrastiveSC | Mapping[str, Any] | None, target: Target, patch_genes_tp: Tensor
) -> FrozenTeacher:
    """A contrastive encoder over the model's genes that is still to be trained, or a copy of a given one."""
    is_given = isinstance(teacher, ContrastiveSC)
    contrastive = ContrastiveSC(None, registry=model.registry_, **(teacher_settings(teacher) or {})).module
    if is_given:
        contrastive.load_state_dict(teacher.module.state_dict())
    n_patches = len(patch_genes_tp)
    context = {"cross": cross_context(n_patches), "patch": torch.eye(n_patches, dtype=torch.bool)}.get(target)
    return FrozenTeacher(contrastive, patch_genes_tp, context, is_trained=is_given)


def teacher_phase(teacher: FrozenTeacher, cells: Cells, max_epochs: int | None) -> Phase:
    """The teacher's own training; names in the history begin with ``teacher_``."""
    training = ContrastiveSC.training
    epochs = training.epochs(cells.n_cells, training.batch_size)
    n_epochs = min(epochs, max_epochs or epochs)
    return Phase(teacher.contrastive, cells, training, n_epochs, prefix="teacher_", takes_options=False)
