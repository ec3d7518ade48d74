"""What contrastive learning with neighbours as positives converges to, in closed form."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from sc_ssl.data import nearest_cells

#: steps of the random walk; after them only what separates groups of cells is left
N_STEPS = 128


def diffusion_components(spaces: Sequence[np.ndarray], n_neighbors: int, n_components: int) -> np.ndarray:
    """Unit vectors of the cells in the leading eigenvectors of a random walk on their neighbours, (n, n_components).

    Cells are joined by the share of neighbours that they have in common (Jaccard index of their ``n_neighbors`` nearest
    cells by cosine), summed over the spaces. An eigenvector of the symmetric walk ``D^-½ W D^-½`` weighs ``eigenvalue^128``. The minimum of the
    spectral contrastive loss spans these eigenvectors when neighbours are its positives (HaoChen et al. 2021, Provable
    guarantees for self-supervised deep learning with spectral contrastive loss); the walk and the sphere make of them
    groups that are tight, however large, and equally far apart.

    Parameters
    ----------
    spaces
        Features of the cells in one or more spaces, (n, c) each.
    n_neighbors
        Neighbours a cell.
    n_components
        Number of eigenvectors; what the data do not have is 0.
    """
    walk = _symmetric_walk(sum(shared_neighbors(nearest_cells(_unit(x_nc), n_neighbors)) for x_nc in spaces))
    n_cells = walk.shape[0]
    lazy = 0.5 * (walk + sparse.identity(n_cells, format="csr"))  # no negative eigenvalues
    n_found = min(n_components, n_cells - 1)
    vectors, values, _ = randomized_svd(lazy, n_found, n_iter=20, random_state=0)
    components = np.zeros((n_cells, n_components), np.float32)
    components[:, :n_found] = vectors * np.clip(2 * values - 1, 0, 1) ** N_STEPS
    return _unit(components)


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


def _unit(x_nc: np.ndarray) -> np.ndarray:
    return x_nc / np.maximum(np.linalg.norm(x_nc, axis=1, keepdims=True), 1e-12)


def _symmetric_walk(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    scale = sparse.diags(np.asarray(weights.sum(axis=1)).ravel() ** -0.5)
    return (scale @ weights @ scale).tocsr()
