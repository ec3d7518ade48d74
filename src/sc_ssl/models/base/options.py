"""Arguments of a training, checked once and before any work."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import scvi.train
import torch

from sc_ssl._checks import check_rate
from sc_ssl.train import SSLTrainingPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .module import SSLModule

#: Lightning's names of precisions in which models train
PRECISIONS = ("32-true", "32", "bf16-mixed", "16-mixed")
#: names by which other packages know an argument → what it is here
ELSEWHERE = {
    "train_size": "validation_size, the share that is held out",
    "val_size": "validation_size",
    "test_size": "validation_size",
    "use_gpu": "accelerator='gpu'",
    "gpus": "accelerator='gpu'",
    "device": "accelerator and devices",
    "epochs": "max_epochs",
    "n_epochs": "max_epochs",
    "learning_rate": "plan_kwargs={'lr': …}",
    "patience": "early_stopping_patience",
}


def check_training(options: Mapping[str, Any], train: Callable[..., None] | None = None) -> None:
    """Errors for arguments of ``SSLModel.train`` that no training has, or whose values none can have.

    ``train`` is that of a subclass which takes further ones.

    Raises
    ------
    TypeError
        An argument that there is not, with the nearest one and where it belongs.
    ValueError
        A value out of its range.
    """
    known = OWN | _parameters(scvi.train.Trainer.__init__, pl.Trainer.__init__)
    _check_names(options, known if train is None else known | _parameters(train), "train")
    plan = options.get("plan_kwargs") or {}
    if not isinstance(plan, Mapping):
        raise TypeError(f"plan_kwargs is a mapping of settings, such as {{'lr': 1e-3}}, found {plan!r}.")
    _check_names(plan, PLAN, "plan_kwargs")
    for name, least in (("max_epochs", 1), ("batch_size", 2)):
        _check_whole(name, options.get(name), least)
    held_out, stops = options.get("validation_size"), options.get("early_stopping", False)
    if held_out is not None:
        if isinstance(held_out, bool) or not isinstance(held_out, Real):
            raise TypeError(f"validation_size is a share in [0, 1), found {held_out!r}.")
        check_rate("validation_size", held_out)
    monitor = options.get("early_stopping_monitor", "validation_loss")
    if stops and held_out == 0 and str(monitor).startswith("validation"):
        raise ValueError(
            "early_stopping=True watches the loss of cells that are held out, found validation_size=0; leave it out (0.1), or "
            "watch early_stopping_monitor='train_loss'."
        )
    _check_devices(options.get("devices", "auto"))


def check_precision(precision: object, module: SSLModule) -> None:
    """An error for a precision other than that of the weights, which is single unless the module was made double."""
    double = str(precision) in ("64", "64-true") and next(module.parameters()).dtype == torch.float64
    if precision is not None and not double and str(precision) not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(map(repr, PRECISIONS))}, found {precision!r}.")


def _parameters(*callables: Any) -> set[str]:
    found = {
        name for f in callables for name, p in inspect.signature(f).parameters.items() if p.kind is not p.VAR_KEYWORD
    }
    return found - {"self", "args"}


#: settings of the training plan
PLAN = _parameters(SSLTrainingPlan.__init__) - {"module", "prefix", "fused"}
#: of ``SSLModel.train`` itself
OWN = {
    "max_epochs",
    "batch_size",
    "micro_batch_size",
    "validation_size",
    "early_stopping",
    "accelerator",
    "devices",
    "plan_kwargs",
    "callbacks",
    "checkpoint_dir",
    "checkpoint_seconds",
}


def _check_names(given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for name in given:
        if name in known:
            continue
        if where != "plan_kwargs" and name in PLAN:
            remedy = f"it is one of plan_kwargs: plan_kwargs={{{name!r}: …}}"
        elif name in ELSEWHERE:
            remedy = f"here it is {ELSEWHERE[name]}"
        else:
            near = difflib.get_close_matches(str(name), sorted(map(str, known)), n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(OWN | PLAN))}"
        raise TypeError(f"{where} has no argument {name!r}; {remedy}.")


def _check_whole(name: str, value: object, least: int) -> None:
    if value is None:
        return
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())  # 2.0 too
    if not whole or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, at least {least}, found {value!r}.")
    if value < least:
        raise ValueError(f"{name} is a whole number, at least {least}, found {value}.")


def _check_devices(devices: object) -> None:
    if devices not in ("auto", 1, "1") and not (isinstance(devices, list) and len(devices) == 1):
        raise ValueError(f"training runs on one device, found devices={devices!r}; pass 1 or a list of one.")
