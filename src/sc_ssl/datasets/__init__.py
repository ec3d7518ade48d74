"""Public data sets that tutorials and tests read, one function each, with source, licence and checksum."""

from sc_ssl.datasets.cancer_lines import cancer_lines
from sc_ssl.datasets.gut_mouse import gut_mouse
from sc_ssl.datasets.lung_cancer_lines import lung_cancer_lines
from sc_ssl.datasets.orthologs_human_mouse import orthologs_human_mouse
from sc_ssl.datasets.pancreas_human_mouse import pancreas_human_mouse
from sc_ssl.datasets.pancreas_mouse import pancreas_mouse
from sc_ssl.datasets.pbmc4k import pbmc4k
from sc_ssl.datasets.pbmc68k_reduced import pbmc68k_reduced
from sc_ssl.datasets.pbmc_cite import pbmc_cite
from sc_ssl.datasets.pbmc_interferon import pbmc_interferon
from sc_ssl.datasets.pbmc_three_technologies import pbmc_three_technologies
from sc_ssl.datasets.pollen import pollen
from sc_ssl.datasets.worm_neuron import worm_neuron

__all__ = [
    "cancer_lines",
    "gut_mouse",
    "lung_cancer_lines",
    "orthologs_human_mouse",
    "pancreas_human_mouse",
    "pancreas_mouse",
    "pbmc4k",
    "pbmc68k_reduced",
    "pbmc_cite",
    "pbmc_interferon",
    "pbmc_three_technologies",
    "pollen",
    "worm_neuron",
]
