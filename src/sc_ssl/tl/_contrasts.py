"""What an explanation is asked about: some cells against others, and the direction of the embedding that separates them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sc_ssl.data import obs_categories

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sc_ssl.data import Counts

#: share of the cells that are an end of a dimension
END = 0.1


@dataclass(frozen=True)
class Contrast:
    """Cells inside against cells outside, along a direction of length 1 in the embedding.

    Attributes
    ----------
    kind, name
        ``"dimension"``, ``"group"`` or ``"batch"``; and which.
    direction_d
        (d,), length 1, towards the cells inside.
    inside_n, outside_n
        Which cells, (n,) bool.
    stratum_n
        Codes (n,): cells are compared with cells of the same; ``None`` with all.
    """

    kind: str
    name: str
    direction_d: np.ndarray
    inside_n: np.ndarray
    outside_n: np.ndarray
    stratum_n: np.ndarray | None = None

    def pairs(self, n_cells: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """At most so many cells inside, drawn at random, and for each one outside, (m,) each."""
        inside, outside = np.flatnonzero(self.inside_n), np.flatnonzero(self.outside_n)
        if self.stratum_n is not None:
            inside = inside[np.isin(self.stratum_n[inside], self.stratum_n[outside])]
        chosen = np.sort(rng.choice(inside, min(n_cells, len(inside)), replace=False))
        if self.stratum_n is None:
            # each cell outside as often as the others, give or take one
            times = -(-len(chosen) // len(outside))
            return chosen, np.concatenate([rng.permutation(outside) for _ in range(times)])[: len(chosen)]
        other = [rng.choice(outside[self.stratum_n[outside] == self.stratum_n[cell]]) for cell in chosen]
        return chosen, np.array(other, dtype=int)


def contrasts(
    counts: Counts, z_nd: np.ndarray, *, groupby: str | None, dims: Sequence[int] | None, batch_key: str | None
) -> list[Contrast]:
    """Those that were asked for; every dimension when nothing was.

    Raises
    ------
    ValueError
        A group of one cell; a group that is all cells; a dimension that is not there.
    """
    if groupby is None and batch_key is None and dims is None:
        dims = range(z_nd.shape[1])
    groups = None if groupby is None else _codes(counts, groupby)
    batches = None if batch_key is None else _codes(counts, batch_key)
    found = list(_of_dimensions(z_nd, dims)) if dims is not None else []
    if groups is not None:
        found += _of_groups(z_nd, *groups, kind="group")
    if batches is not None:
        code_n, names = batches
        found += _of_groups(z_nd, code_n, names, kind="batch", stratum_n=None if groups is None else groups[0])
    return found


def _codes(counts: Counts, key: str) -> tuple[np.ndarray, pd.Index]:
    """Codes of the groups in ``obs[key]`` and their names; an error unless there are two with two cells each."""
    code_n, names = pd.factorize(obs_categories(counts, key), sort=True)
    if len(names) < 2:
        raise ValueError(
            f"obs[{key!r}] has one group, {names[0]!r}, which is all {len(code_n)} cells; there is nothing to compare it "
            "with. Name a column with two groups at least."
        )
    n_k = np.bincount(code_n)
    if n_k.min() < 2:
        alone = ", ".join(repr(name) for name in names[n_k < 2][:5])
        raise ValueError(
            f"each group in obs[{key!r}] needs two cells at least, found one cell in {alone}; leave such cells out, or "
            "merge the group with another."
        )
    return code_n, names


def _of_dimensions(z_nd: np.ndarray, dims: Sequence[int]) -> Iterator[Contrast]:
    """The upper end of a dimension against its lower end."""
    n_dims = z_nd.shape[1]
    for d in dims:
        if not isinstance(d, int | np.integer) or not 0 <= d < n_dims:
            raise ValueError(
                f"dims are whole numbers from 0 to {n_dims - 1}, as the embedding has {n_dims}, found {d!r}."
            )
        order = z_nd[:, d].argsort(kind="stable")
        n_end = max(int(END * len(order)), 2)
        inside, outside = np.zeros((2, len(order)), bool)
        inside[order[-n_end:]] = outside[order[:n_end]] = True
        yield Contrast("dimension", f"dim {d}", np.eye(n_dims, dtype=np.float32)[d], inside, outside)


def _of_groups(
    z_nd: np.ndarray, code_n: np.ndarray, names: pd.Index, *, kind: str, stratum_n: np.ndarray | None = None
) -> Iterator[Contrast]:
    """Each group against all other cells, along the line between their means; within strata where there are some."""
    for k, name in enumerate(names):
        inside = code_n == k
        direction = _difference(z_nd, inside, stratum_n)
        if direction is None:
            raise ValueError(
                f"{kind} {name!r} shares no value of groupby with the others, so that like cells cannot be compared; "
                "leave out groupby, or batch_key."
            )
        direction = direction / max(float(np.linalg.norm(direction)), 1e-12)
        yield Contrast(kind, str(name), direction.astype(np.float32), inside, ~inside, stratum_n)


def _difference(z_nd: np.ndarray, inside_n: np.ndarray, stratum_n: np.ndarray | None) -> np.ndarray | None:
    """Mean inside less mean outside, (d,); with strata the mean over them by their cells inside, ``None`` without one."""
    if stratum_n is None:
        return z_nd[inside_n].mean(axis=0) - z_nd[~inside_n].mean(axis=0)
    differences, sizes = [], []
    for s in np.unique(stratum_n[inside_n]):
        ours, theirs = inside_n & (stratum_n == s), ~inside_n & (stratum_n == s)
        if theirs.any():
            differences.append(z_nd[ours].mean(axis=0) - z_nd[theirs].mean(axis=0))
            sizes.append(ours.sum())
    return np.average(differences, axis=0, weights=sizes) if differences else None
