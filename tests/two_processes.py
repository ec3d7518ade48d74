"""The gradient of a contrasted minibatch: by one process, and by each of a group of two."""

from pathlib import Path

import torch
import torch.distributed as group
from torch import nn

from sc_ssl.losses import nt_xent
from sc_ssl.train import View, divided_backward

N_CELLS, SIZE = 16, 4


class Contrasted(nn.Module):
    """Dropout, a term over cells with a label, and a head on the gathered embeddings."""

    n_views, shares_noise = 2, False

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Dropout(0.1), nn.Linear(8, 6))
        self.label, self.head = nn.Linear(6, 1), nn.Linear(6, 4)

    def encode_view(self, cells):
        z_nd = self.encoder(cells["X"])
        known = cells["known"]
        return View(z_nd, {"label": self.label(z_nd)[known].square().sum()}, {"label": known.sum()})

    def contrast(self, views):
        return {"nt_xent": nt_xent(*(self.head(z_nd) for z_nd in views), 0.2)}


def measure_alone():
    """What one process finds on all cells."""
    return measure(*module_and_chunks())


def measure_rank(rank: int, folder: Path):
    """What a process of a group of two finds on its half of the cells, and the number of all-reduces."""
    module, chunks = module_and_chunks()
    group.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    n_reduced, all_reduce = [], group.all_reduce
    group.all_reduce = lambda *args, **kwargs: (n_reduced.append(1), all_reduce(*args, **kwargs))
    found = measure(module, chunks[rank * 2 : rank * 2 + 2])
    group.barrier()
    group.destroy_process_group()
    return *found, len(n_reduced)


def module_and_chunks():
    """The same in every process."""
    torch.manual_seed(0)
    module = Contrasted().double()
    x_ng, known = torch.randn(N_CELLS, 5, dtype=torch.float64), torch.rand(N_CELLS) < 0.4
    chunks = [
        {"X": x_ng[i : i + SIZE], "known": known[i : i + SIZE], "batch": torch.zeros(SIZE, 1)}
        for i in range(0, N_CELLS, SIZE)
    ]
    return module, chunks


def measure(module, chunks):
    """The gradient and the terms."""
    terms = {name: float(term) for name, term in divided_backward(module, chunks, 5).items()}
    return torch.cat([p.grad.flatten() for p in module.parameters()]).numpy(), terms
