"""Multilayer perceptron."""

from collections.abc import Sequence
from numbers import Integral

import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl._checks import check_choice

NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "selu": nn.SELU}


class MLP(nn.Sequential):
    """Linear → norm → activation → dropout for each hidden layer, then a linear output with nothing after.

    Parameters
    ----------
    n_input, n_output
        Width in and out.
    n_hidden
        Widths of the hidden layers.
    norm
        ``"batch"`` (as contrastive-sc), ``"layer"`` (independent of the other cells of the minibatch) or ``"none"``.
    activation
        ``"relu"`` or ``"selu"``.
    dropout_rate
        Share of the hidden units that training sets to 0, in [0, 1).
    """

    def __init__(
        self,
        n_input: int,
        n_hidden: Sequence[int],
        n_output: int,
        *,
        norm: str = "batch",
        activation: str = "relu",
        dropout_rate: float = 0.0,
    ) -> None:
        check_choice("norm", norm, (*NORMS, "none"))
        check_choice("activation", activation, ACTIVATIONS)
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate lies in [0, 1), found {dropout_rate}.")
        for width in (n_input, *n_hidden, n_output):
            if not isinstance(width, Integral) or width < 1:
                raise ValueError(f"the width of a layer is a whole number from 1 on, found {width!r}.")
        layers: list[nn.Module] = []
        for width in n_hidden:
            layers.append(nn.Linear(n_input, width))
            if norm != "none":
                layers.append(NORMS[norm](width))
            layers.append(ACTIVATIONS[activation]())
            if dropout_rate:
                layers.append(nn.Dropout(dropout_rate))
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
