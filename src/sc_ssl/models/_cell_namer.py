"""Names of cells from a classifier's probabilities, or from the labelled cells that are nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ._base import SSLModel
from ._cell_types import labelled_cells, type_codes
from ._cells_model import positions
from ._neighbor_votes import neighbor_votes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from ._classifier_module import CellClassifierModule


class CellNamer(SSLModel):
    """A model that knows types, the labels of its own cells, and how probable each type is for a cell."""

    module: CellClassifierModule
    classes: list[str]
    labels_key: str
    unlabeled_category: str
    #: code of each own cell's type, −1 where there is none
    _label_n: np.ndarray | None = None

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """What the head reads of cells, before or after fine-tuning; as of the other models."""
        return self._map_cells(self.module.embed, adata, indices, batch_size)

    @property
    def labels(self) -> np.ndarray:
        """Types of the classifier's own cells, (n,), ``None`` where there is none."""
        label_n = np.full(self._own_cells().n_cells, -1) if self._label_n is None else self._label_n
        return np.asarray([*self.classes, None], dtype=object)[label_n]

    def predict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        soft: bool = False,
        return_uncertainty: bool = False,
        unknown: str | bool | None = True,
        center: bool = False,
    ) -> Any:
        """Name the types of cells, by default the classifier's own; rows come in the order asked for.

        Parameters
        ----------
        adata, indices
            Cells, as in :meth:`get_latent_representation`.
        soft
            The probability of each type instead of a name.
        return_uncertainty
            Also 1 − the probability of the most probable type.
        unknown
            What a cell is called whose most probable type is less probable than the threshold that training chose, with
            ``True`` the ``unlabeled_category``; ``None`` or ``False`` name a type for every cell.
        center
            Move the cells' mean embedding to that of the cells trained with first, which removes what sets all of one
            apart from all of the other, such as platform or species; of harm where the types differ, or cells are few.

        Returns
        -------
        (n,) names, or with ``soft`` a data frame (n, k) of calibrated probabilities with the types as columns; with
        ``return_uncertainty`` a pair of that and (n,) in [0, 1].
        """
        self._check_if_trained(warn=False)
        if center:
            z_nd = torch.as_tensor(self._map_cells(self.module.embed, adata, indices)).to(self.device)
            proba_nk = self.module.proba_at(z_nd - z_nd.mean(dim=0) + self.module.center_d).numpy(force=True)
        else:
            proba_nk = self._map_cells(self.module.proba, adata, indices)
        top_n = proba_nk.max(axis=1)
        name_n = np.asarray(self.classes, dtype=object)[proba_nk.argmax(axis=1)]
        if unknown:
            name_n[top_n < float(self.module.threshold)] = self.unlabeled_category if unknown is True else unknown
        names = (self._adata if adata is None else adata).obs_names
        index = names[positions(len(names), indices)]
        found = pd.DataFrame(proba_nk, index=index, columns=self.classes) if soft else name_n
        return (found, 1 - top_n) if return_uncertainty else found

    def predict_knn(self, adata: AnnData | None = None, *, n_neighbors: int = 15, soft: bool = False) -> Any:
        """Name the types of cells by the labelled cells that are nearest in the embedding (cosine, near ones weigh more).

        Parameters
        ----------
        adata
            Cells; by default the classifier's own labelled cells, each without itself among its neighbours.
        n_neighbors
            Labelled neighbours that vote, at most all.
        soft
            The share of the votes of each type instead of a name.

        Returns
        -------
        (n,) names, or a data frame (n, k) with the types as columns.
        """
        index, label_n = self._labelled()
        own_nd = self._map_cells(self.module.embed, None, index)
        query_nd = None if adata is None else self._map_cells(self.module.embed, adata, None)
        proba_nk = neighbor_votes(own_nd, label_n, len(self.classes), query_nd, n_neighbors=n_neighbors)
        if not soft:
            return np.asarray(self.classes, dtype=object)[proba_nk.argmax(axis=1)]
        names = self._adata.obs_names[index] if adata is None else adata.obs_names
        return pd.DataFrame(proba_nk, index=names, columns=self.classes)

    def _attach(self, adata: AnnData, *, min_coverage: float) -> None:
        super()._attach(adata, min_coverage=min_coverage)
        self._label_n = type_codes(adata, self.labels_key, self.unlabeled_category, self.classes)

    def _labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the cells with a known type, and its code."""
        self._own_cells()  # its error comes first
        index = labelled_cells(self._label_n, self.labels_key, self.classes)
        return index, self._label_n[index]
