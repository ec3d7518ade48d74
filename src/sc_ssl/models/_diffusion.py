"""What contrastive learning with neighbours as positives converges to, in closed form, and the components beside it."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from sc_ssl.data import nearest_cells

#: steps of the random walk; after them only what separates groups of cells is left
N_STEPS = 128
#: eigenvectors of the neighbour graph; the walk leaves few of them
N_DIFFUSION = 50
#: principal components beside them, and the root mean square of their length where the place has 1
N_LEADING, LEADING_LENGTH = 20, 0.5


def graph_position(components_nc: np.ndarray, n_neighbors: int, *, n_leading: int) -> np.ndarray:
    """Each cell's place in the graph of these components and, beside it, the leading ones, (n, 50 + ``n_leading``).

    The place is as of :func:`diffusion_components`, with a mean square of 1 whatever the number of eigenvectors.
    """
    place_nd = diffusion_components(components_nc, n_neighbors, N_DIFFUSION)
    leading_nd = components_nc[:, :n_leading]
    length = max(float(np.sqrt((leading_nd**2).sum(axis=1).mean())), 1e-12) if n_leading else 1.0
    return np.hstack([place_nd, leading_nd * (LEADING_LENGTH / length)]) * N_DIFFUSION**0.5


def on_the_sphere(position_nd: Tensor) -> Tensor:
    """Predicted positions with the place as a unit vector, and the components in the same scale."""
    place_nd, leading_nd = position_nd[:, :N_DIFFUSION], position_nd[:, N_DIFFUSION:]
    return torch.cat([F.normalize(place_nd, dim=1), leading_nd / N_DIFFUSION**0.5], dim=1)


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
    unit_nc = x_nc / np.maximum(np.linalg.norm(x_nc, axis=1, keepdims=True), 1e-12)
    walk = _symmetric_walk(shared_neighbors(nearest_cells(unit_nc, n_neighbors)))
    lazy = 0.5 * (walk + sparse.identity(len(x_nc), format="csr"))  # no negative eigenvalues
    n_found = min(n_components, len(x_nc) - 1)
    vectors, values, _ = randomized_svd(lazy, n_found, n_iter=20, random_state=0)
    components = np.zeros((len(x_nc), n_components), np.float32)
    components[:, :n_found] = vectors * np.clip(2 * values - 1, 0, 1) ** N_STEPS
    return components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-12)


def shared_neighbors(neighbors: np.ndarray) -> sparse.csr_matrix:
    """Jaccard index of the neighbourhoods of every two cells that share a neighbour; each cell its own neighbour."""
    n, k = neighbors.shape
    member = sparse.csr_matrix(
        (np.ones(n * k, np.float32), neighbors.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n)
    )
    member.sum_duplicates()
    member.data[:] = 1
    shared = (member @ member.T).tocsr()
    shared.data /= 2 * k - shared.data
    # what two cells share by chance would join everything to everything
    shared.data[shared.data <= 1 / 15] = 0
    shared.eliminate_zeros()
    return shared


def _symmetric_walk(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    scale = sparse.diags(np.asarray(weights.sum(axis=1)).ravel() ** -0.5)
    return (scale @ weights @ scale).tocsr()
