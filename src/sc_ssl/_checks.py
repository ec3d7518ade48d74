"""Arguments that name one of a few choices."""

from collections.abc import Iterable


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """An error that names the argument, the choices and what was found instead."""
    if value not in (known := tuple(choices)):
        raise ValueError(f"{name} is one of {', '.join(map(repr, known))}, found {value!r}.")
