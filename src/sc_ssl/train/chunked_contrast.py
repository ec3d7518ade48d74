"""Divide and conquer: the gradient of a large minibatch in the memory of a small one.

Gradient caching (Gao et al. 2021, arXiv 2101.06983), which CellLM (Zhao et al. 2023) calls divide-and-conquer
contrastive learning. With z_i = f_θ(x_i; noise_i) and a loss L of all z, ``dL/dθ = Σ_i (dz_i/dθ)ᵀ u_i``,
``u_i = dL/dz_i``: a first pass without gradient finds all z and from them u, a second one, chunk by chunk and with the
same noise, adds up ``⟨z, u⟩``. It is exact where a cell's embedding depends on that cell and its noise alone.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sc_ssl.data import Minibatch

from .plan import SSLTrainingPlan
from .process_group import all_sum, gather, grouped, rank, reduce_gradients
from .seeds import replayed

#: largest difference of an embedding between the passes, over its largest entry
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
#: the same where autocast rounds to half precision
ROUGH = 2e-2


class View(NamedTuple):
    """What a view of some cells adds to the loss.

    Attributes
    ----------
    z_nd
        Embeddings, (n, d), which are compared with those of all other cells.
    sums
        Loss terms that each cell has by itself, weighted and summed.
    counts
        How many entries each sum is over: its term is the sum of sums over the sum of counts.

    Examples
    --------
    >>> import torch
    >>> from sc_ssl.train import View
    >>> z_nd = torch.zeros(4, 8)
    >>> view = View(z_nd, sums={"masked": z_nd.sum()}, counts={"masked": torch.tensor(4)})
    """

    z_nd: Tensor
    sums: dict[str, Tensor]
    counts: dict[str, Tensor]


class Contrast(Protocol):
    """A module whose loss compares the embeddings of random views of cells."""

    n_views: int
    shares_noise: bool

    def encode_view(self, cells: Mapping[str, Tensor]) -> View:
        """A random view of these cells; each cell's embedding depends on no other cell."""

    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the embeddings (n, d) of all cells in each view."""

    def order(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The order in which cells are chunked, so that similar work comes together, (n,)."""


def joint_terms(module: Contrast, outs: list[list[View]]) -> dict[str, Tensor]:
    """The terms of a loss from the chunks of each view."""
    views = [view for view_k in outs for view in view_k]
    terms = module.contrast([torch.cat([view.z_nd for view in view_k]) for view_k in outs])
    return terms | _means(_total([view.sums for view in views]), _total([view.counts for view in views]))


def end_to_end(module: Contrast, chunks: Sequence[Mapping[str, Tensor]], seed: int) -> dict[str, Tensor]:
    """The loss terms of all chunks together, with a graph through all of them; noise as in ``divided_backward``."""
    outs = [_encode(module, chunks, v, seed) for v in range(module.n_views)]
    return joint_terms(module, [list(out) for out in outs])


def divided_backward(module: Contrast, chunks: Sequence[Mapping[str, Tensor]], seed: int) -> dict[str, Tensor]:
    """Add the gradient of the loss of all chunks together to ``.grad``, with the graph of one chunk at a time.

    In a process group (``torch.distributed``) the loss is that of the cells of all processes, which must have equally
    many, and the gradients are added up in one all-reduce; they have to be None or 0 before.

    Raises
    ------
    ValueError
        Batch norm in the encoder, by which cells depend on each other.
    RuntimeError
        The second pass did not repeat the first.
    """
    # first pass, without a graph: the embeddings z of all chunks, which become the leaves of a small graph
    with torch.no_grad():
        first = [list(_encode(module, chunks, v, seed)) for v in range(module.n_views)]
    views = [torch.cat([view.z_nd for view in view_k]).requires_grad_() for view_k in first]
    # the contrast of all cells, of all processes, and its gradient u = dL/dz; a head on z gets its gradient here
    own, world = gather(views)
    counts = all_sum(_total([view.counts for view_k in first for view in view_k]))
    parameters = [p for p in module.parameters() if p.requires_grad]  # type: ignore[attr-defined]
    terms = module.contrast(own)
    gradients = torch.autograd.grad(sum(terms.values()), [*views, *parameters], allow_unused=True)
    for p, gradient in zip(parameters, gradients[module.n_views :], strict=True):
        if gradient is not None:  # of a head on all embeddings, which each process computes in full
            p.grad = gradient / world if p.grad is None else p.grad + gradient / world
    # second pass, chunk by chunk: the same noise, now with a graph, and backward from ⟨z, u⟩ and the chunk's own terms
    drift = [
        _backward_chunk(again, before, u, counts)
        for v, u_nd in enumerate(gradients[: module.n_views])
        for again, before, u in zip(
            _encode(module, chunks, v, seed), first[v], u_nd.split([len(b.z_nd) for b in first[v]]), strict=True
        )
    ]
    # sums over processes: of the gradients, and of the terms that each cell has alone, for the log
    _check_replay(max(drift), views[0].dtype)
    reduce_gradients(parameters)
    sums = all_sum(_total([view.sums for view_k in first for view in view_k]))
    return {name: term.detach() for name, term in terms.items()} | _means(sums, counts)


class Chunks(Sequence[Minibatch]):
    """Parts of a minibatch, each copied out of it when it is asked for: together they would be a second minibatch.

    Of each part, what the module asks for is copied, and no more.

    Parameters
    ----------
    cells
        The minibatch; what is not by cell goes into each part.
    index_k
        The cells of each part.
    """

    def __init__(self, cells: Mapping[str, Tensor], index_k: Sequence[Tensor]) -> None:
        self.cells, self.index_k = cells, index_k

    def __len__(self) -> int:
        return len(self.index_k)

    def __getitem__(self, k: int) -> Minibatch:  # type: ignore[override]
        index = self.index_k[operator.index(k)]
        return Minibatch({}, {name: partial(self._part, name, index) for name in self.cells})

    def _part(self, name: str, index: Tensor) -> Tensor:
        value = self.cells[name]
        return value if name == "measured" else value[index]


def divide(module: Contrast, cells: Mapping[str, Tensor], micro_batch_size: int) -> Chunks:
    """A minibatch in chunks, in the order that the module likes."""
    return Chunks(cells, module.order(cells).split(micro_batch_size))


class ChunkedContrastPlan(SSLTrainingPlan):
    """The training plan of divide and conquer: steps as ``SSLTrainingPlan`` takes them, with less memory.

    Time grows by a third (a forward pass more) when a minibatch is divided; a minibatch that is not is trained on end
    to end. The noise is drawn for each chunk, so that another ``micro_batch_size`` draws another sample of it.

    Parameters
    ----------
    module
        A `Contrast`.
    micro_batch_size
        Cells a chunk, ≥ 1; ``"auto"`` starts with all and halves when memory runs out.
    gradient_clip_val
        Largest norm of the gradient.
    **options
        Of `SSLTrainingPlan`.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        micro_batch_size: int | Literal["auto"] = "auto",
        gradient_clip_val: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(module, **options)
        if micro_batch_size != "auto" and micro_batch_size < 1:
            raise ValueError(f"micro_batch_size is at least 1 or 'auto', found {micro_batch_size!r}.")
        self.automatic_optimization = False
        self.halves = micro_batch_size == "auto"
        self.micro_batch_size = None if micro_batch_size == "auto" else int(micro_batch_size)
        self.gradient_clip_val = gradient_clip_val

    def on_fit_start(self) -> None:
        """Refuse what cannot be exact, before anything is trained."""
        super().on_fit_start()
        if self.trainer.precision == "16-mixed":
            raise ValueError("the divided minibatch is trained with precision '32' or 'bf16-mixed', found '16-mixed'.")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how far ``"auto"`` has halved."""
        checkpoint["micro_batch_size"] = self.micro_batch_size

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        self.micro_batch_size = checkpoint["micro_batch_size"]

    def training_step(self, cells: Mapping[str, Tensor], batch_idx: int) -> None:
        """One optimiser step on one minibatch."""
        # from the random state, which a training that is resumed takes up: the noise is then that of the same step
        seed = int(torch.randint(2**62, ()))
        terms = self._backward(cells, seed)
        self._add_terms(terms, "train", len(cells["batch"]))
        if self.gradient_clip_val is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.gradient_clip_val)
        self.optimizers().step()
        self.lr_schedulers().step()

    def _backward(self, cells: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
        # a minibatch that fits is trained end to end; one that does not is divided, by halves where that is allowed
        n_cells = len(cells["batch"])
        while True:
            self.optimizers().zero_grad()
            size = min(self.micro_batch_size or n_cells, n_cells)
            chunks = divide(self.module, cells, size)
            try:
                if len(chunks) > 1 or grouped():  # of several processes the loss is that of all their cells
                    return divided_backward(self.module, chunks, seed)
                terms = end_to_end(self.module, chunks, seed)
                torch.stack(list(terms.values())).sum().backward()
                return terms
            except RuntimeError as error:
                # alone it would wait for the others, which do not halve
                if not self.halves or grouped() or size == 1 or not _is_out_of_memory(error):
                    raise
                self.micro_batch_size = -(-size // 2)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def _encode(module: Contrast, chunks: Sequence[Mapping[str, Tensor]], v: int, seed: int) -> Iterator[View]:
    """A view of each chunk; its noise follows from the seed, the view and the chunk, whatever came before."""
    for k, chunk in enumerate(chunks):
        number = 0 if module.shares_noise else k + rank() * len(chunks)
        with replayed(seed, v, number), _refusing_batch_norm(module):
            view = module.encode_view(chunk)
        yield view


def _backward_chunk(again: View, before: View, u_nd: Tensor, counts: dict[str, Tensor]) -> Tensor:
    """Backward through one chunk; how far its embeddings are from those of the first pass."""
    # the chunk's share of each term: its sum over the count of all chunks; and ⟨z, u⟩, whose gradient is (dz/dθ)ᵀ u
    own = _means(again.sums, counts)
    surrogate = (again.z_nd * u_nd).sum() + sum(own.values())
    surrogate.backward()
    return (again.z_nd.detach() - before.z_nd).abs().max() / before.z_nd.abs().max().clamp(min=1e-6)


def _check_replay(drift: Tensor, dtype: torch.dtype) -> None:
    autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    tolerance = ROUGH if autocast else TOLERANCE.get(dtype, ROUGH)
    if drift > tolerance:  # not where the loss is no number: the plan raises that error
        raise RuntimeError(
            f"the two passes of a divided minibatch differ by {float(drift):.2g} (relative, at most {tolerance:g}): "
            "encode_view must draw all noise from torch's random state, and change no state of its own."
        )


@contextmanager
def _refusing_batch_norm(module: Any) -> Iterator[None]:
    """Raise when batch norm runs in train mode."""

    def refuse(norm: nn.Module, _: Any) -> None:
        if norm.training:
            raise ValueError(
                "the encoder has batch norm, by which a cell's embedding depends on its minibatch: a divided minibatch "
                "would not be exact. Take layer norm (norm='layer') or leave out micro_batch_size."
            )

    # a hook on each batch norm, for as long as the encoder runs: a head on all embeddings may have one
    norms = [part for part in module.modules() if isinstance(part, BATCH_NORMS)]
    handles = [norm.register_forward_pre_hook(refuse) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _total(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name] for part in parts]).sum(dim=0) for name in parts[0]}


def _means(sums: dict[str, Tensor], counts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: total / counts[name].clamp(min=1) for name, total in sums.items()}


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
