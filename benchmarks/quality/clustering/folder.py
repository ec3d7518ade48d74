"""Where the runs of a paper's tables and figures are kept, and on which cells they are done."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from benchmarks.quality.cells import subset
from benchmarks.quality.data import load
from benchmarks.quality.runs import Runs, kept
from sc_ssl.metrics import pca_space

from . import methods

KEYS = ("dataset", "method", "seed")
#: cells of a data set in a quick run, and epochs of MaskSC's variants there
QUICK_CELLS = 1_000
QUICK_EPOCHS = 10


class Folder:
    """Runs and embeddings under one folder; those of a quick run have names of their own.

    Parameters
    ----------
    path
        The folder.
    quick
        Take 1,000 cells of each data set, drawn once, and train variants of MaskSC for 10 epochs.
    """

    def __init__(self, path: Path, *, quick: bool = False) -> None:
        self.path, self.quick = path, quick
        self.max_epochs = QUICK_EPOCHS if quick else None
        self._cells = cache(self._load)
        self._space = cache(lambda name: pca_space(self._cells(name).X))

    def cells(self, name: str) -> AnnData:
        """A copy of the data set."""
        return self._cells(name).copy()

    def common_space(self, name: str) -> np.ndarray:
        """The principal components in which the clusters of all methods are compared."""
        return self._space(name)

    def runs(self, name: str) -> Runs:
        """Runs by data set, method and seed."""
        return Runs(self.path / f"{name}{self._suffix}.csv", KEYS)

    def table(self, name: str) -> pd.DataFrame:
        """The finished runs."""
        return self.runs(name).table()

    def is_drawn(self, file: str, name: str) -> bool:
        """Whether a picture is there and no run was finished since."""
        picture, runs = self.path / file, self.runs(name).path
        return picture.exists() and picture.stat().st_mtime >= runs.stat().st_mtime

    def kept_at(self, file: str) -> Path:
        """Where an array is kept that is not to be computed twice."""
        return self.path / f"embeddings{self._suffix}" / file

    def embedding(self, name: str, method: str, seed: int) -> np.ndarray:
        """A row's embedding, from its file if there is one."""
        make = (methods.METHODS | methods.ON_DEMAND)[method]
        return kept(self._embedding_file(name, method, seed), lambda: make(self.cells(name), seed))

    def keep(self, name: str, method: str, seed: int, embedding: np.ndarray) -> None:
        """Keep a row's embedding for the figures."""
        kept(self._embedding_file(name, method, seed), lambda: embedding)

    def _embedding_file(self, name: str, method: str, seed: int) -> Path:
        return self.kept_at(f"{name}.{method}.{seed}.npy")

    @property
    def _suffix(self) -> str:
        return "_quick" if self.quick else ""

    def _load(self, name: str) -> AnnData:
        adata = load(name)
        if not self.quick:
            return adata
        return adata[subset(adata.n_obs, QUICK_CELLS, 0)].copy()
