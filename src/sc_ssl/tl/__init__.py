"""Tools that write results into an AnnData."""

from .embed import embed

__all__ = ["embed"]
