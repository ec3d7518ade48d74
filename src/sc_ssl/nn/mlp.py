"""Multilayer perceptron."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class MLP(nn.Sequential):
    """Linear → norm → ReLU for each hidden layer, then a linear output with nothing after.

    Parameters
    ----------
    n_input, n_output
        Width in and out.
    n_hidden
        Widths of the hidden layers.
    norm
        ``"batch"`` (as contrastive-sc) or ``"layer"`` (independent of the other cells of the minibatch).
    """

    def __init__(self, n_input: int, n_hidden: Sequence[int], n_output: int, *, norm: str = "batch") -> None:
        if norm not in NORMS:
            raise ValueError(f"norm is one of {', '.join(NORMS)}, found {norm!r}.")
        layers: list[nn.Module] = []
        for width in n_hidden:
            layers += [nn.Linear(n_input, width), NORMS[norm](width), nn.ReLU()]
            n_input = width
        layers.append(nn.Linear(n_input, n_output))
        super().__init__(*layers)
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x_ng: Tensor, genes_k: Tensor | None = None) -> Tensor:
        """(n, n_input) → (n, n_output); with ``genes_k`` only these inputs are given, (n, k), and all others are 0."""
        first, *rest = self
        if genes_k is None:
            h = first(x_ng)
        else:
            assert isinstance(first, nn.Linear)
            h = F.linear(x_ng, first.weight[:, genes_k], first.bias)
        for layer in rest:
            h = layer(h)
        return h  # type: ignore[no-any-return]
