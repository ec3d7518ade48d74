"""Settings that are one of a few words."""

from collections.abc import Iterable


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse another word, and say which there are."""
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(map(repr, choices))}, found {value!r}.")
