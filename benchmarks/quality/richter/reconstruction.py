"""Expression as decoded: of all genes from all, and of masked genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from sklearn.decomposition import PCA

from benchmarks.quality.cells import draw_cells, split, variable_genes
from benchmarks.quality.data import load_all
from benchmarks.quality.embeddings import model_of
from sc_ssl.metrics import explained_variance

from .encoders import mask_options
from .task import Row, Task, task

MAX_CELLS = 2000
N_GENES, N_COMPONENTS, MASK_RATE = 4096, 64, 0.5
#: name → masked?, weighted?
SCORES = {
    "hidden, weighted": (True, True),
    "hidden, uniform": (True, False),
    "all, weighted": (False, True),
    "all, uniform": (False, False),
}
#: as printed: all genes from all of them
PUBLISHED = {
    "random genes": {"all, weighted": 0.252},
    "random genes, nb": {"all, weighted": 0.367},
    "programme to regulator": {"all, weighted": 0.264},
}


@dataclass
class Study:
    """Cells for training and for the test, the same for all rows of a seed."""

    train: AnnData
    test: AnnData


def study(name: str, seed: int) -> Study:
    """At most 2,000 cells, a fifth for the test."""
    adata = load_all(name)
    return Study(*split(adata[draw_cells(adata.n_obs, seed, MAX_CELLS)], seed, by_type=False))


def autoencoder(mask: str | None = None, **options: Any) -> Row:
    """A masked autoencoder, scored on test cells; masked genes are those of its own kind of mask."""

    def row(study: Study, seed: int) -> dict[str, float]:
        model = model_of("mae", study.train, seed, **options, **({} if mask is None else mask_options(mask)))
        return {
            score: model.get_explained_variance(study.test, random_state=seed, masked=masked, weighted=weighted)
            for score, (masked, weighted) in SCORES.items()
        }

    return row


def components(study: Study, seed: int) -> dict[str, float]:
    """As many principal components; half of the genes masked by their mean, the others scaled up."""
    train_ng, test_ng = variable_genes(study.train, study.test, n_genes=N_GENES)
    mean_g = train_ng.mean(axis=0)
    pca = PCA(N_COMPONENTS, random_state=seed).fit(train_ng)
    hidden_ng = np.random.default_rng(seed).random(test_ng.shape) < MASK_RATE
    shown_ng = mean_g + np.where(hidden_ng, 0, test_ng - mean_g) / (1 - MASK_RATE)
    masked_ng, all_ng = (pca.inverse_transform(pca.transform(x_ng)) for x_ng in (shown_ng, test_ng))
    masked_ng[~hidden_ng] = np.nan
    return {
        score: explained_variance(test_ng, masked_ng if masked else all_ng, weighted=weighted)
        for score, (masked, weighted) in SCORES.items()
    }


def benchmark() -> Task:
    """What the command line runs."""
    return task(
        "reconstruction",
        datasets=("pbmc_zheng_facs", "celllines_mixology", "pbmc_3tech_symphony"),
        prepare=study,
        rows={
            "random genes": autoencoder(),
            "random genes, nb": autoencoder(likelihood="nb"),
            "programmes": autoencoder("gene_programs"),
            "one programme": autoencoder("one_program"),
            "programme to regulator": autoencoder("program_to_regulator"),
            "pca": components,
        },
        measures=tuple(SCORES),
        published=PUBLISHED,
        note="of 19,331 genes, before fine-tuning, decoded without a mask; the squared error behind a sigmoid",
    )
