"""One picture of the benchmarks, from the runs in ``benchmarks/results``: ``python -m benchmarks.overview``."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
OURS, OTHERS = "#c0392b", "0.55"

#: title, file, score, and its rows: name in the file → name in the picture, ours first
PANELS = [
    (
        "Clusters: K-means\nwith the annotated number",
        "labelled/clustering.csv",
        "ari",
        {"masksc": "masksc (default)", "nmf": "nmf", "mae": "mae", "scvi": "scVI", "pca_standard": "PCA"},
        3,
    ),
    (
        "Types by 15 neighbours,\nno label seen before",
        "richter_knn.csv",
        "macro_f1",
        {
            "mae": "mae",
            "masksc": "masksc (default)",
            "barlow_twins": "barlow_twins",
            "pca": "PCA",
            "random mae": "untrained",
        },
        3,
    ),
    (
        "Types after 100 labelled cells,\neach data set left out in turn",
        "scpretrain.csv",
        "macro_f1",
        {
            "ScPretrain with target fine-tuned": "tl.annotate",
            "PCA-50 + logistic": "PCA + logistic",
            "no pretraining": "no pretraining",
        },
        1,
    ),
    (
        "Types found across batches",
        "integration.csv",
        "f1",
        {"masksc, batch named": "masksc, batch_key", "Harmony": "Harmony", "ComBat": "ComBat", "PCA": "PCA"},
        1,
    ),
]


def scores(file: str, score: str, rows: dict[str, str]) -> pd.DataFrame:
    """Means over seeds: data set (and its composition) × row."""
    runs = pd.read_csv(RESULTS / file)
    if "n_labels" in runs:
        runs = runs[runs["n_labels"].astype(str) == "100"]
    index = [name for name in ("dataset", "composition") if name in runs]
    return runs.pivot_table(score, index, "method")[list(rows)].rename(columns=rows).dropna()


def main() -> None:
    """Draw a panel for each question: a point a data set, a bar at the mean."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 5.6), layout="constrained")
    for ax, (title, file, score, rows, n_ours) in zip(axes.flat, PANELS, strict=True):
        table = scores(file, score, rows)
        for y, name in enumerate(table):
            color = OURS if y < n_ours else OTHERS
            ax.scatter(table[name], [y] * len(table), s=22, color=color, alpha=0.4, linewidths=0)
            ax.plot([table[name].mean()] * 2, [y - 0.32, y + 0.32], color=color, linewidth=3)
            ax.text(1.03, y, f"{table[name].mean():.2f}", va="center", transform=ax.get_yaxis_transform(), color=color)
        ax.set_yticks(range(table.shape[1]), table.columns)
        ax.set(xlim=(0, 1.02), xlabel={"ari": "ARI", "f1": "macro F1", "macro_f1": "macro F1"}[score])
        twice = "composition" in table.index.names  # as they are, and with a type left out of each batch
        what = (
            f"{len(table) // 2} data sets,\nas they are and with types left out" if twice else f"{len(table)} data sets"
        )
        ax.set_title(f"{title} ({what})", fontsize=10, loc="left")
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(ROOT / "docs" / "_static" / "benchmarks.png", dpi=130)


if __name__ == "__main__":
    main()
