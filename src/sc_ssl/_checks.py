"""Arguments that name one of a few choices, or are a share or a number of something."""

from collections.abc import Iterable


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """An error that names the argument, the choices and what was found instead."""
    if value not in (known := tuple(choices)):
        raise ValueError(f"{name} is one of {', '.join(map(repr, known))}, found {value!r}.")


def check_share(name: str, value: float) -> None:
    """An error that names the argument and what was found, unless it is in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a share in [0, 1], found {value!r}.")


def check_at_least(name: str, value: int | None, least: int) -> None:
    """An error that names the argument and what was found, unless it is left out or large enough."""
    if value is not None and value < least:
        raise ValueError(f"{name} is at least {least}, found {value!r}.")
