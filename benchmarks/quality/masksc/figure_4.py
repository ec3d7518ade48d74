"""Figure 4 of the mask-sc paper: t-SNE of each method's embedding."""

import matplotlib.pyplot as plt

from benchmarks.quality.clustering.folder import Folder
from benchmarks.quality.figures import DPI
from benchmarks.quality.runs import Run, grid
from sc_ssl import pl

TABLE = "masksc_figure_4"
ROWS = ("pca_raw", "pca_standard", "nmf", "scdeepcluster", "sczidesk", "contrastive_sc", "masksc")


def fill(folder: Folder, names: list[str], n_seeds: int) -> None:
    """Make the embeddings that are missing, with the first seed; ``n_seeds`` changes nothing."""

    def n_dims(this: Run) -> dict[str, int]:
        return {"n_dims": folder.embedding(this["dataset"], this["method"], 0).shape[1]}

    folder.runs(TABLE).fill(grid({"dataset": names, "method": ROWS, "seed": [0]}), n_dims)


def section(folder: Folder) -> list[str]:
    """Draws a figure for each data set that has none since its last run."""
    lines = [
        "t-SNE (perplexity 30, started from principal components) of the embeddings of one seed, by annotated type.\n"
    ]
    for name, runs in folder.table(TABLE).groupby("dataset", sort=False):
        keys = [method for method in ROWS if method in set(runs["method"])]
        file = f"{TABLE}_{name}.png"
        if not folder.is_drawn(file, TABLE):
            _draw(folder, name, keys, file)
        lines += [f"![t-SNE of {name} in {len(keys)} embeddings]({file})"]
    return lines


def _draw(folder: Folder, name: str, keys: list[str], file: str) -> None:
    adata = folder.cells(name)
    for method in keys:
        adata.obsm[method] = folder.embedding(name, method, 0)
    figure = pl.embedding_compare(adata, keys, color="cell_type", layout="tsne", return_fig=True)
    figure.savefig(folder.path / file, dpi=DPI)
    plt.close(figure)
