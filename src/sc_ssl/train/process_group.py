"""What several processes share of a minibatch (``torch.distributed``): nothing, where there is one."""

import torch
from torch import Tensor, nn


def grouped() -> bool:
    """Whether there is a group."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank() -> int:
    """The number of this process, 0 without a group."""
    return torch.distributed.get_rank() if grouped() else 0


def gather(views: list[Tensor]) -> tuple[list[Tensor], int]:
    """The embeddings of all processes; only the own rows have a gradient."""
    if not grouped():
        return views, 1
    own, world = rank(), torch.distributed.get_world_size()
    gathered = []
    for view in views:
        parts = [torch.empty_like(view) for _ in range(world)]
        torch.distributed.all_gather(parts, view.detach())
        gathered.append(torch.cat([view if r == own else part for r, part in enumerate(parts)]))
    return gathered, world


def all_sum(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sums over all processes, by a gather: the one all-reduce is that of the gradients."""
    if not grouped() or not values:
        return values
    mine = torch.stack([value.detach().double() for value in values.values()])
    parts = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, mine)
    total = torch.stack(parts).sum(dim=0)
    return {name: total[i].to(value.dtype) for i, (name, value) in enumerate(values.items())}


def reduce_gradients(parameters: list[nn.Parameter]) -> None:
    """Add up the gradients of all processes, in one all-reduce."""
    if not grouped():
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    torch.distributed.all_reduce(flat)
    for p, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = gradient.view_as(p)
