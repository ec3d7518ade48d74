"""Minibatches drawn by index from cells that lie on the device, sparse until the minibatch is made."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cached_property, partial

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from scipy import sparse
from torch import Tensor

from .cells import Cells
from .minibatch import Minibatch
from .rows import CHUNK, is_backed

#: cells are normalised once for the whole of a training when that takes no more memory than this
MAX_NORMALIZED_BYTES = 2**29
#: a count matrix up to this size is kept on an accelerator, a larger one in the host's memory
MAX_RESIDENT_BYTES = 8 * 2**30
#: cells from disk: so many neighbours stay together, and so many cells are mixed in memory (scDataset's block and fetch)
BLOCK, BUFFER = 64, 2**14


class CellLoader:
    """Iterates over minibatches ``{"X": (n, g) counts, "library_size": (n, 1), "batch": (n, 1)}`` of float32 and int64.

    Also what :meth:`Cells.beside` put there, ``"measured"`` (g,) when the data lack some of the model's genes, and
    ``"normalized"`` (n, g) where a normalisation is given. ``"X"`` and ``"normalized"`` are made when they are asked for:
    a module that reads neither, an embedding beside the cells for example, never has them made.

    The CSR arrays lie on the device as three tensors; a minibatch is densified there. No workers, no collation: for a
    million cells in memory this is faster than either. Cells on disk are read thousands at a time, while those read before
    are computed on: in their order, or shuffled, blocks of neighbouring cells in random order, mixed among the blocks that
    are read together.

    Parameters
    ----------
    cells
        What to read.
    index
        Which cells, in this order unless shuffled.
    batch_size
        Cells a minibatch.
    shuffle
        A new order each time round, from torch's random state; cells with weights are drawn by them.
    drop_last
        Leave out a last, smaller minibatch.
    normalize
        The module's normalisation. When the result is small enough it is computed for all cells at once, at the first
        minibatch whose ``"normalized"`` is asked for: the same numbers, without the work of every epoch.
    """

    def __init__(
        self,
        cells: Cells,
        index: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        normalize: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    ) -> None:
        self.cells = cells
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.device = torch.device(device)
        self._index = torch.as_tensor(index, dtype=torch.int64)
        self._library_size = torch.as_tensor(cells.library_size)[:, None].to(self.device)
        self._batch = torch.as_tensor(cells.batch, dtype=torch.int64)[:, None].to(self.device)
        self._measured = None if cells.measured.all() else torch.as_tensor(cells.measured).to(self.device)
        self._extra = {name: torch.as_tensor(array).to(self.device) for name, array in cells.extra.items()}
        small = 4 * cells.n_cells * cells.n_genes <= MAX_NORMALIZED_BYTES
        self._normalize = normalize if small and not is_backed(cells.matrix) else None

    def __len__(self) -> int:
        """Number of minibatches."""
        full, rest = divmod(len(self._index), self.batch_size)
        return full + int(rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Minibatch]:
        """One time round."""
        index = self._drawn() if self.shuffle else self._index
        if is_backed(self.cells.matrix):
            yield from self._from_disk(index.numpy())
            return
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield self._minibatch(index[start : start + self.batch_size])

    def _drawn(self) -> Tensor:
        """As many cells as there are, in random order: each once, or in proportion to its weight, rounded at random."""
        index = self._index[torch.randperm(len(self._index))]
        if self.cells.weight is None:
            return index
        weight = torch.as_tensor(self.cells.weight, dtype=torch.float64)[index].cumsum(0)
        # in float64 throughout: of many cells, a rounded point may lie beyond the last weight
        point = (torch.arange(len(index), dtype=torch.float64) + torch.rand(())) / len(index) * weight[-1]
        drawn = index[torch.searchsorted(weight, point).clamp(max=len(index) - 1)]
        return drawn[torch.randperm(len(drawn))]

    def _from_disk(self, index: np.ndarray) -> Iterator[Minibatch]:
        """Minibatches of cells that are read a buffer ahead, by a thread of its own."""
        buffers = self._mixed(index) if self.shuffle else np.split(index, range(BUFFER, len(index), BUFFER))
        n_left, rest = len(self), (index[:0], sparse.csr_matrix((0, self.cells.n_genes), dtype=np.float32))
        with closing(_read_ahead(self.cells.rows, buffers)) as parts:
            for part in parts:
                index, rows = np.concatenate([rest[0], part[0]]), sparse.vstack([rest[1], part[1]], format="csr")
                n_full = min(len(index) // self.batch_size, n_left)
                for start in range(0, n_full * self.batch_size, self.batch_size):
                    yield self._read(index, rows, slice(start, start + self.batch_size))
                n_left -= n_full
                rest = index[n_full * self.batch_size :], rows[n_full * self.batch_size :]
        if n_left:
            yield self._read(*rest, slice(None))

    def _mixed(self, index: np.ndarray) -> list[np.ndarray]:
        """Cells in the order in which they are read and trained on: blocks of neighbours, mixed among those of a buffer."""
        blocks = np.split(np.sort(index), range(BLOCK, len(index), BLOCK))
        order = torch.randperm(len(blocks)).split(BUFFER // BLOCK)
        buffers = [np.concatenate([blocks[i] for i in group]) for group in order]
        return [buffer[torch.randperm(len(buffer)).numpy()] for buffer in buffers]

    def _read(self, index: np.ndarray, rows: sparse.csr_matrix, part: slice) -> Minibatch:
        """A minibatch of cells that were read."""
        minibatch = self._minibatch(torch.from_numpy(index[part]))
        return minibatch | {"X": torch.from_numpy(rows[part].toarray()).to(self.device)}

    def _minibatch(self, index: Tensor, *, with_normalized: bool = True) -> Minibatch:
        on_device = index.to(self.device)
        tensors = {
            "library_size": self._library_size[on_device],
            "batch": self._batch[on_device],
            **{name: array[on_device] for name, array in self._extra.items()},
        }
        if self._measured is not None:
            tensors["measured"] = self._measured
        makers = {"X": partial(self._counts, index)}
        if self._normalize is not None and with_normalized:
            makers["normalized"] = lambda: self._normalized.index_select(0, on_device)
        return Minibatch(tensors, makers)

    def _counts(self, index: Tensor) -> Tensor:
        return self._densify(*self._csr, index)

    @cached_property
    def _normalized(self) -> Tensor:
        """All cells, (n, g); a plain tensor also where it is first asked for in inference mode."""
        with torch.inference_mode(False), torch.no_grad():
            parts = torch.arange(self.cells.n_cells).split(CHUNK)
            first = self._normalize(self._minibatch(parts[0], with_normalized=False))
            normalized = first.new_empty(self.cells.n_cells, self.cells.n_genes)  # of the module's precision
            normalized[parts[0]] = first
            for rows in parts[1:]:
                normalized[rows] = self._normalize(self._minibatch(rows, with_normalized=False))
        return normalized

    @cached_property
    def _csr(self) -> tuple[Tensor, Tensor, Tensor]:
        """The counts as three tensors, on the device unless they are too large for it."""
        csr = self.cells.matrix
        size = csr.data.nbytes + csr.indices.nbytes
        home = self.device if size <= MAX_RESIDENT_BYTES else torch.device("cpu")
        indptr, indices, data = (torch.from_numpy(a).to(home) for a in (csr.indptr, csr.indices, csr.data))
        return indptr.long(), indices, data

    def _densify(self, indptr: Tensor, indices: Tensor, data: Tensor, index: Tensor) -> Tensor:
        """Rows ``index`` of a CSR matrix as a dense (n, g) tensor on the device."""
        index = index.to(indptr.device)
        start = indptr[index]
        length = indptr[index + 1] - start
        row = torch.repeat_interleave(torch.arange(len(index), device=index.device), length)
        before = torch.cumsum(length, 0) - length
        position = torch.arange(len(row), device=index.device) + (start - before)[row]
        flat = row * self.cells.n_genes + indices[position]
        x = torch.zeros(len(index) * self.cells.n_genes, device=self.device)
        x[flat.to(self.device)] = data[position].to(self.device)
        return x.view(len(index), self.cells.n_genes)


def _read_ahead(
    read: Callable[[np.ndarray], sparse.csr_matrix], buffers: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, sparse.csr_matrix]]:
    """Each buffer with its rows; the next one is read while this one is in use."""
    with ThreadPoolExecutor(1) as pool:
        futures = deque([pool.submit(read, buffers[0])])
        for number, buffer in enumerate(buffers):
            if number + 1 < len(buffers):
                futures.append(pool.submit(read, buffers[number + 1]))
            yield buffer, futures.popleft().result()


class CellDataModule(LightningDataModule):
    """Training and validation minibatches for scvi-tools' ``TrainRunner``.

    Parameters
    ----------
    cells
        All cells of the model.
    batch_size
        Cells a minibatch; a last smaller one is left out of training (one cell breaks batch norm and contrast).
    validation_size
        Share of the cells held out, in [0, 1), drawn from torch's random state.
    normalize
        The module's normalisation, done once where memory allows; see :class:`CellLoader`.
    val_idx
        The held-out cells, of an interrupted training for example, instead of drawing them.
    """

    def __init__(
        self,
        cells: Cells,
        batch_size: int,
        *,
        validation_size: float = 0.0,
        normalize: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
        val_idx: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.cells = cells
        self.normalize = normalize
        self.n_val = int(np.ceil(validation_size * cells.n_cells)) if val_idx is None else len(val_idx)
        self.n_train = cells.n_cells - self.n_val
        if self.n_train < min(2, cells.n_cells):
            raise ValueError(
                f"validation_size={validation_size} holds out {self.n_val} of {cells.n_cells} cells and leaves {self.n_train} to "
                "train on; take a smaller share."
            )
        self.batch_size = min(batch_size, self.n_train)
        if val_idx is None:
            val_idx = np.sort(torch.randperm(cells.n_cells)[: self.n_val].numpy()) if self.n_val else np.empty(0, int)
        self.val_idx, self.train_idx = val_idx, np.setdiff1d(np.arange(cells.n_cells), val_idx)
        self.test_idx = np.empty(0, dtype=int)

    def loader(self, index: np.ndarray, *, device: torch.device, training: bool = False) -> CellLoader:
        """Minibatches of some of the cells."""
        return CellLoader(
            self.cells,
            index,
            self.batch_size,
            shuffle=training,
            drop_last=training,
            device=device,
            normalize=self.normalize,
        )

    def train_dataloader(self) -> CellLoader:
        """Shuffled minibatches."""
        return self.loader(self.train_idx, device=self.trainer.strategy.root_device, training=True)

    def val_dataloader(self) -> CellLoader | list[CellLoader]:
        """Minibatches of the held-out cells, none without a validation set."""
        return self.loader(self.val_idx, device=self.trainer.strategy.root_device) if self.n_val else []
