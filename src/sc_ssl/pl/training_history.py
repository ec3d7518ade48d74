"""How the terms of the loss went down over the epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.ticker import MaxNLocator

from sc_ssl.pl._figure import finish, panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPLITS = {"train": "train", "val": "validation", "validation": "validation"}
# How the two curves of a term are drawn. The palette is Okabe and Ito's, which colour-blind readers can distinguish.
STYLES = {"train": {"color": "#0072B2"}, "validation": {"color": "#D55E00", "linestyle": "--"}}
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def training_history(
    model_or_history: Any,
    *,
    key: str | None = None,
    keys: str | Sequence[str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | list[Axes] | Figure | None:
    """Plot each term of the loss over the epochs, for training and validation.

    One panel per term, because terms can differ by orders of magnitude; with ``ax`` all terms share it.

    Parameters
    ----------
    model_or_history
        Cells that a tool of this package has written into, for example :func:`sc_ssl.tl.embed`; a trained model (its
        ``history`` is read); or such a history (name → DataFrame of one column, indexed by epoch, or array).
    key
        Of cells, the name of the result in ``uns``, for example ``"masksc"``. Default: the only one that was trained.
    keys
        Which to plot: terms (``"loss"``: training and validation) or names in the history (``"train_loss"``). Default:
        all but those logged per minibatch (``*_step``).
    ax
        Axes to draw all terms into, one colour per term. Default: a new figure.
    show
        Show the figure. Default: ``scanpy.settings.autoshow``.
    return_fig
        Return the figure.

    Returns
    -------
    The figure if ``return_fig``, None if shown, else the Axes (a list if there are several).

    Raises
    ------
    ValueError
        If there is no history, e.g. because the model is not trained; or several in the cells, and no ``key``.
    KeyError
        If a key is not in the history, or ``key`` not among the results.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.embed(adata, "contrastive_sc")
    >>> ax = sc_ssl.pl.training_history(adata.uns["contrastive_sc"]["history"], show=False)
    """
    if isinstance(model_or_history, AnnData):
        model_or_history = _of_cells(model_or_history, key)
    curves = _select(_read(model_or_history), keys)
    axes = panels(len(curves), n_cols=3, size=(4.0, 3.0)) if ax is None else [ax] * len(curves)
    for i, (panel, (term, lines)) in enumerate(zip(axes, curves.items(), strict=True)):
        for split, values in lines.items():
            style = STYLES.get(split, {"color": STYLES["train"]["color"]})
            if ax is not None:
                style = style | {"color": COLORS[i % len(COLORS)]}
            label = split if ax is None else f"{term} ({split})" if split else term
            _draw(panel, values, label=label, **style)
        _decorate(panel, "loss" if ax is not None else term, legend=ax is not None or any(lines))
    return finish(axes if ax is None else [ax], show=show, return_fig=return_fig)


def _of_cells(adata: AnnData, key: str | None) -> Mapping[str, Any]:
    """The history of one result in ``uns``."""
    found = {name: entry["history"] for name, entry in adata.uns.items() if _has_history(entry)}
    listed = ", ".join(map(repr, found)) or "none: run sc_ssl.tl.embed first"
    if key is not None and key not in found:
        raise KeyError(f"adata.uns has no training history named {key!r}; it has {listed}.")
    if key is None and len(found) != 1:
        raise ValueError(f"name the result by key=, one of those with a training history in adata.uns, {listed}.")
    return found[next(iter(found)) if key is None else key]


def _has_history(entry: Any) -> bool:
    return isinstance(entry, Mapping) and bool(entry.get("history")) and "params" in entry


def _draw(panel: Axes, values: pd.Series, **style: Any) -> None:
    # A point where there is no line to see: one epoch only.
    marker = "o" if len(values) == 1 else None
    panel.plot(values.index, values, marker=marker, linewidth=1.6, **style)


def _decorate(panel: Axes, ylabel: str, *, legend: bool) -> None:
    panel.set_xlabel("epoch")
    panel.set_ylabel(ylabel)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(alpha=0.25, linewidth=0.6)
    if legend:
        panel.legend(frameon=False)


def _read(model_or_history: Any) -> dict[str, pd.Series]:
    """Return name → values by epoch; epochs without a value (no validation in them) are left out."""
    history: Mapping[str, Any] | None = getattr(model_or_history, "history", model_or_history)
    if not history:
        raise ValueError("There is no training history to plot. Train the model first: model.train().")
    if not hasattr(history, "items"):
        raise TypeError(f"Expected a model or its history (name → values), but got {type(model_or_history).__name__}.")
    return {name: _series(values).dropna() for name, values in history.items()}


def _series(values: Any) -> pd.Series:
    if isinstance(values, pd.DataFrame):
        values = values.iloc[:, 0]
    series = values if isinstance(values, pd.Series) else pd.Series(np.ravel(values))
    return series.astype(float)


def _select(history: dict[str, pd.Series], keys: str | Sequence[str] | None) -> dict[str, dict[str, pd.Series]]:
    """Return term → {"train" | "validation" | "": values} for the keys asked for."""
    keys = [keys] if isinstance(keys, str) else _default_keys(history) if keys is None else list(keys)
    curves: dict[str, dict[str, pd.Series]] = {}
    for key in keys:
        names = [key] if key in history else [name for name in history if _term(name)[0] == key]
        if not names:
            raise KeyError(f"{key!r} is not in the training history, which has {', '.join(history)}.")
        for name in names:
            term, split = _term(name)
            curves.setdefault(term, {})[split] = history[name]
    return curves


def _default_keys(history: dict[str, pd.Series]) -> list[str]:
    """All names per epoch, the total first, less what only repeats it: the sum of one term is that term."""
    chosen: list[str] = []
    for name in sorted(history, key=lambda name: _term(name)[0] != "loss"):  # sorted keeps the order otherwise
        repeated = any(history[name].equals(history[other]) for other in chosen)
        if len(history[name]) and not name.endswith("_step") and not repeated:
            chosen.append(name)
    return chosen


def _term(name: str) -> tuple[str, str]:
    """Split a name into term and split: ``train_loss_epoch`` and ``loss_train`` are both ``("loss", "train")``."""
    words = name.removesuffix("_epoch").split("_")
    split = next((word for word in words if word in SPLITS), None)
    if split is None or len(words) == 1:
        return "_".join(words), ""
    words.remove(split)
    return "_".join(words), SPLITS[split]
