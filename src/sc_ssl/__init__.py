"""Self-supervised learning for single-cell RNA-seq, beside scanpy: ``sc_ssl.tl.embed(adata)`` and go on."""

from importlib import import_module, metadata
from types import ModuleType

__version__ = metadata.version("sc_ssl")
__all__ = ["pp", "tl", "pl", "models", "metrics", "datasets", "settings"]


def __getattr__(name: str) -> ModuleType:
    """Import a sub-package on first use: torch and scvi-tools take ten seconds, ``import sc_ssl`` should not."""
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
