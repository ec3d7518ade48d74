"""CellLM's parts on small data: ``--task`` says which."""

from . import _ppi

TASKS = {"ppi": _ppi}
DATASETS = {"ppi": _ppi.GRAPHS}
