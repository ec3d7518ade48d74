"""How much of a source's programmes a target should take: the weight θ, and whether the source is of use at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._nmf import coefficients, kernel_target_alignments, mixed_programs, programs, relative_error, unit_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ._nmf import Scale

#: weights that are tried
THETAS = tuple(tenths / 10 for tenths in range(11))
#: share of the counts on which programmes are learned while θ is chosen; they are judged on the others
KEPT_SHARE = 0.8
#: θ and the transferability are worked out on at most so many cells, evenly spread
MAX_JUDGED = 1000
N_PERMUTATIONS = 49


def alignments(
    counts_ng: csr_matrix, library_size_n: np.ndarray, scale: Scale, program_pg: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """For each θ, how well the cells' coefficients agree with counts that had no part in them, (θ,) in [0, 1].

    Each count is thrown into one of two parts by chance, which makes them independent given the cell's expression
    (Poisson thinning). The alignment of the coefficients with the counts that they were fitted to would always call
    for less of the source.
    """
    kept_ng, held_ng = counts_ng.copy(), counts_ng.copy()
    kept_ng.data = rng.binomial(counts_ng.data.astype(np.int64), KEPT_SHARE).astype(np.float32)
    held_ng.data = counts_ng.data - kept_ng.data
    x_ng, held_x_ng = scale(kept_ng, KEPT_SHARE * library_size_n), scale(held_ng, (1 - KEPT_SHARE) * library_size_n)
    mixed = (mixed_programs(x_ng, program_pg, theta) for theta in THETAS)
    return kernel_target_alignments(held_x_ng, (unit_rows(coefficients(x_ng, w_pg)) for w_pg in mixed))


def transferability(
    x_ng: csr_matrix, program_pg: np.ndarray, *, seed: int | None, rng: np.random.Generator
) -> dict[str, Any]:
    """Where the error of the source's programmes lies between that of their genes permuted (0) and the target's own (1).

    Returns
    -------
    ``score``, ``p_value`` (share of permutations that do as well), ``error``, ``own_error``, ``permuted_error``
    (permutations,): relative squared errors.
    """

    def error(w_pg: np.ndarray) -> float:
        return relative_error(x_ng, coefficients(x_ng, w_pg), w_pg)

    permuted = np.array([error(program_pg[:, rng.permutation(program_pg.shape[1])]) for _ in range(N_PERMUTATIONS)])
    found, own = error(program_pg), error(programs(x_ng, len(program_pg), seed=seed))
    return {
        "score": float((permuted.mean() - found) / (permuted.mean() - own)),
        "p_value": float((1 + (permuted <= found).sum()) / (1 + N_PERMUTATIONS)),
        "error": found,
        "own_error": own,
        "permuted_error": permuted,
    }
