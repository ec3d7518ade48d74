"""Public data sets with raw counts and annotated cell types, small enough for tests and benchmarks."""

from sc_ssl.datasets.pbmc4k import pbmc4k
from sc_ssl.datasets.pbmc68k_reduced import pbmc68k_reduced
from sc_ssl.datasets.worm_neuron import worm_neuron

__all__ = ["pbmc4k", "pbmc68k_reduced", "worm_neuron"]
