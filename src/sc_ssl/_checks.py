"""Arguments that name one of a few choices, are a number in a range, or group several settings."""

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import numpy as np


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """An error that names the argument, the choices and what was found instead."""
    if value not in (known := tuple(choices)):
        raise ValueError(f"{name} is one of {', '.join(map(repr, known))}, found {value!r}.")


def check_share(name: str, value: float) -> None:
    """An error that names the argument and what was found, unless it is in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a share in [0, 1], found {value!r}.")


def check_inside(name: str, value: float) -> None:
    """An error that names the argument and what was found, unless it is in (0, 1)."""
    if not 0 < value < 1:
        raise ValueError(f"{name} lies in (0, 1), found {value!r}.")


def check_rate(name: str, value: float) -> None:
    """An error that names the argument and what was found, unless it is in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} lies in [0, 1), found {value!r}.")


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """An error that names the argument and what was found, unless it is a whole number from ``least`` on."""
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} is a whole number, at least {least}, found {value!r}.")


def check_positive(name: str, value: float) -> None:
    """An error that names the argument and what was found, unless it is above 0."""
    if not value > 0:
        raise ValueError(f"{name} is above 0, found {value!r}.")


def check_weight(name: str, value: float) -> None:
    """An error that names the argument and what was found, unless it is at least 0."""
    if not value >= 0:
        raise ValueError(f"{name} is at least 0, found {value!r}.")


def with_defaults(name: str, given: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of an argument that groups several: the given ones, and the defaults of the others.

    Raises
    ------
    TypeError
        Not a mapping.
    ValueError
        A setting that the argument does not have; the known ones are listed.
    """
    if given is None:
        return dict(defaults)
    if not isinstance(given, Mapping):
        example = next(iter(defaults.items()))
        raise TypeError(f"{name} is a mapping of settings, such as {dict([example])}, found {given!r}.")
    for key in given:
        if key not in defaults:
            raise ValueError(f"{name} has no setting {key!r}; it has {', '.join(map(repr, defaults))}.")
    return {**defaults, **given}


def check_finite(values: np.ndarray, what: str) -> None:
    """An error that names the first row with NaN or infinity, of numbers (n, …)."""
    finite = np.isfinite(values)
    if finite.all():
        return
    n_bad = int((~finite.reshape(len(values), -1).all(axis=1)).sum())
    first = int(np.argwhere(~finite)[0][0])
    raise ValueError(
        f"{what} is not finite, found {values[first][~finite[first]].flat[0]} in {n_bad} of {len(values)} rows, the first "
        f"row {first}: the training has diverged (take a smaller learning rate, plan_kwargs={{'lr': …}}), or the saved "
        "weights are damaged."
    )
