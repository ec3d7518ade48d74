"""A minibatch of cells, in which what is costly is made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from torch import Tensor


class Minibatch(Mapping[str, Tensor]):
    """Tensors of some cells by name; some are made on first use and then kept.

    A module asks for what it reads, ``"X"`` (counts) or ``"normalized"``, and the other is never made. It lies on its
    device already.

    Parameters
    ----------
    tensors
        What is there.
    makers
        What can be made, by name.
    """

    def __init__(self, tensors: Mapping[str, Tensor], makers: Mapping[str, Callable[[], Tensor]] | None = None) -> None:
        self._tensors, self._makers = dict(tensors), dict(makers or {})

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._tensors and name in self._makers:
            self._tensors[name] = self._makers[name]()
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:  # Mapping's own would make it
        return name in self._tensors or name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter({**self._tensors, **self._makers})

    def __len__(self) -> int:
        return len({**self._tensors, **self._makers})

    def __or__(self, other: Mapping[str, Tensor]) -> Minibatch:
        """With other tensors in place of those of the same name; other counts are not normalised yet."""
        stale = {*other, "normalized"} if "X" in other else {*other}
        kept = {name: tensor for name, tensor in self._tensors.items() if name not in stale}
        makers = {name: make for name, make in self._makers.items() if name not in stale}
        return Minibatch(kept | dict(other), makers)

    def to(self, device: Any, **_: Any) -> Self:
        """Itself; lightning asks for this instead of taking every entry apart."""
        return self
