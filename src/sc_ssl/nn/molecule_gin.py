"""A graph network on molecules."""

import torch
from torch import Tensor, nn

from .mlp import MLP

#: layers, and the width of each
N_LAYERS, WIDTH = 3, 128


class MoleculeGIN(nn.Module):
    """Atoms and bonds → one vector a molecule: graph isomorphism layers, the largest value over atoms, an MLP.

    Three layers of 128 whose outputs are joined, as in the drug branch of CellLM's authors. Needs torch-geometric.

    Parameters
    ----------
    n_values
        Values that each of an atom's categorical features takes; each value has a vector, and an atom starts as the sum.
    n_output
        Width of the vector.

    References
    ----------
    Xu et al. (2019), How powerful are graph neural networks?, ICLR.
    """

    offset_a: Tensor

    def __init__(self, n_values: tuple[int, ...], n_output: int) -> None:
        from torch_geometric.nn.models import GIN

        super().__init__()
        self.register_buffer("offset_a", torch.tensor([0, *n_values[:-1]]).cumsum(0))
        self.atoms = nn.EmbeddingBag(sum(n_values), WIDTH, mode="sum")
        self.layers = GIN(WIDTH, WIDTH, N_LAYERS, norm="batch_norm", jk="cat")
        self.readout = MLP(WIDTH, (WIDTH,), n_output, norm="layer")

    def forward(self, atom_va: Tensor, bond_2e: Tensor, molecule_v: Tensor) -> Tensor:
        """Features of atoms (v, a), their bonds both ways and each atom's molecule (v,) → (m, n_output)."""
        from torch_geometric.nn import global_max_pool

        h_vd = self.layers(self.atoms(atom_va + self.offset_a), bond_2e)
        molecule_md: Tensor = self.readout(global_max_pool(h_vd, molecule_v))
        return molecule_md
