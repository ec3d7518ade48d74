"""Settings of CellLM: the published ones, and what settings may be."""

from __future__ import annotations

from numbers import Integral
from typing import Any, get_args

from sc_ssl._checks import check_choice
from sc_ssl.nn import Values

CHOICES = {"values": get_args(Values), "predict_from": ("cell", "token"), "pooling": ("sum", "mean", "cls")}
#: of what is counted, where that is not 1
LEAST = {"n_bins": 2, "n_start_components": 0}
#: largest share of molecules that a view leaves out, where there are counts
THINNING_RATE = 0.5
#: what is known of the published model; the other settings were never released
PAPER: dict[str, Any] = {
    "n_hidden": 512,
    "n_layers": 10,
    "n_heads": 16,
    "head_width": 64,
    "values": "log2",
    "n_bins": 6,
    "target_sum": 1e4,
    "max_genes": 5999,
    "max_training_genes": 5999,
    "pooling": "cls",
    "temperature": 0.05,
    "contrastive_weight": 1.0,
    "gene_dropout_rate": 0.0,
    "thinning_rate": 0.0,
}


def check_settings(
    *,
    choices: dict[str, str],
    counts: dict[str, int | None],
    mask_rate: float,
    temperature: float,
    shares: dict[str, float],
    weights: dict[str, float],
) -> None:
    """Refuse settings that cannot be, by name."""
    for name, choice in choices.items():
        check_choice(name, choice, CHOICES[name])
    if choices["predict_from"] == "cell" and (values := choices["values"]) != "continuous":
        raise ValueError(f"predict_from='cell' is for values='continuous', found values={values!r}; take 'token'.")
    for name, count in counts.items():
        least = LEAST.get(name, 1)
        if count is not None and (not isinstance(count, Integral) or count < least):
            raise ValueError(f"{name} is a whole number, at least {least}, found {count}.")
    if not 0 < mask_rate <= 1:
        raise ValueError(f"mask_rate lies in (0, 1], found {mask_rate}.")
    if not temperature > 0:
        raise ValueError(f"temperature is above 0, found {temperature}.")
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"{name} is at least 0, found {weight}.")
    if not any(weights.values()):
        raise ValueError(f"one of {', '.join(weights)} is above 0, or there is nothing to learn.")
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name} lies in [0, 1), found {share}.")
