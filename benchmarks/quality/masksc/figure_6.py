"""Figure 6 of the mask-sc paper: where the encoder attends, and whether cells of one type do so alike."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from benchmarks.quality.clustering.folder import Folder
from benchmarks.quality.embeddings import QUIET, built
from benchmarks.quality.figures import DPI
from benchmarks.quality.page import markdown, seeds
from benchmarks.quality.runs import Run, grid, kept
from sc_ssl import pl
from sc_ssl.metrics import kmeans

TABLE = "masksc_figure_6"
MODELS = ("trained", "untrained")
#: types and cells of each in the figure
N_TYPES = N_SHOWN = 6


def fill(folder: Folder, names: list[str], n_seeds: int) -> None:
    """Do the runs that are missing."""

    def score(this: Run) -> dict[str, float]:
        name, seed = this["dataset"], this["seed"]
        attention_nt = _maps(folder, name, this["method"], seed)
        labels = folder.cells(name).obs["cell_type"]
        clusters = kmeans(attention_nt, labels.nunique(), random_state=seed)
        return likeness(attention_nt, labels) | {"ari": adjusted_rand_score(labels, clusters)}

    values = {"dataset": names, "method": MODELS, "seed": range(n_seeds)}
    folder.runs(TABLE).fill(grid(values, ("seed", "dataset", "method")), score)


def likeness(attention_nt: np.ndarray, labels: pd.Series) -> dict[str, float]:
    """Mean cosine of the attention maps of two cells of the same type, of two types, and the difference.

    ``centred`` is the difference for maps less their mean over all cells: what all cells attend to does not distinguish them.
    """

    def mean_cosines(map_nt: np.ndarray) -> tuple[float, float]:
        unit_nt = map_nt / np.maximum(np.linalg.norm(map_nt, axis=1, keepdims=True), 1e-12)
        cosine_nn = unit_nt @ unit_nt.T
        code_n = pd.factorize(labels)[0]
        same_nn = code_n[:, None] == code_n
        np.fill_diagonal(cosine_nn, 0)  # a cell and itself are no pair
        n_same = same_nn.sum() - len(code_n)
        return cosine_nn[same_nn].sum() / n_same, cosine_nn[~same_nn].mean()

    within, between = mean_cosines(attention_nt)
    centred = np.subtract(*mean_cosines(attention_nt - attention_nt.mean(axis=0)))
    return {"within": within, "between": between, "difference": within - between, "centred": float(centred)}


def section(folder: Folder) -> list[str]:
    """The table and what training changes, in Markdown; draws a figure for each data set that has none since its last run."""
    runs = folder.table(TABLE)
    means = runs.drop(columns="seed").groupby(["dataset", "method"], sort=False).mean()
    lines = [
        "Attention that each patch receives in the encoder's last block, mean over heads. According to the paper, cells of "
        "one type look alike; measured: the mean cosine between the maps of two cells of the same type, less that of two "
        "cells of different types. `centred`: the same difference after the mean map of all cells is taken away. `ari`: "
        f"K-means on the maps, with the annotated number. `untrained` is the same network before training; {seeds(runs)}.\n",
        *markdown(means.set_axis(means.index.map(", ".join)), "model"),
        "",
    ]
    for name in dict.fromkeys(runs["dataset"]):
        lines += [_finding(name, means.loc[name])]
    for name in dict.fromkeys(runs["dataset"]):
        file = f"{TABLE}_{name}.png"
        if not folder.is_drawn(file, TABLE):
            _draw(folder, name, file)
        lines += ["", f"![Attention of {N_TYPES * N_SHOWN} cells of {name}, a type a row]({file})"]
    return lines


def _finding(name: str, means: pd.DataFrame) -> str:
    trained, untrained = means.loc["trained"], means.loc["untrained"]
    more = "more" if trained["centred"] > untrained["centred"] else "no more"
    return (
        f"- {name}: cosines are {trained['difference']:+.3f} higher within types than between them "
        f"({trained['within']:.3f} against {trained['between']:.3f}), {untrained['difference']:+.3f} before training; "
        f"centred, training makes maps of one type {more} alike ({untrained['centred']:+.3f} to "
        f"{trained['centred']:+.3f}). Clusters of the maps agree with the types by an ARI of "
        f"{trained['ari']:.3f}, before training {untrained['ari']:.3f}."
    )


def _maps(folder: Folder, name: str, method: str, seed: int) -> np.ndarray:
    """Cells × patches."""

    def make() -> np.ndarray:
        with built("masksc", folder.cells(name), seed) as model:
            if method == "trained":
                model.train(folder.max_epochs, **QUIET)
            model.is_trained_ = True
            return model.get_attention().to_numpy()

    return kept(folder.kept_at(f"{name}.attention_{method}.{seed}.npy"), make)


def _draw(folder: Folder, name: str, file: str) -> None:
    adata = folder.cells(name)
    rng = np.random.default_rng(0)
    types = adata.obs["cell_type"]
    shown = np.concatenate(
        [rng.choice(np.flatnonzero(types == t), N_SHOWN, replace=False) for t in types.value_counts().index[:N_TYPES]]
    )
    with built("masksc", adata, 0) as model:  # the matrix is the same before and after training
        model.is_trained_ = True
        figure = pl.attention(
            _maps(folder, name, "trained", 0)[shown],
            model.get_expression_matrix(indices=shown),
            labels=types.iloc[shown],
            n_cols=N_SHOWN,
            patch_shape=model.patch_shape,
            return_fig=True,
        )
    figure.savefig(folder.path / file, dpi=DPI)
    plt.close(figure)
