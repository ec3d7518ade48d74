"""Table 1 of the mask-sc paper: the rows of ``clustering``, the paper's numbers beside them, and how they compare."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.quality.clustering import table as clustering
from benchmarks.quality.clustering.folder import Folder
from benchmarks.quality.clustering.published import ROWS
from benchmarks.quality.clustering.scores import Scores
from benchmarks.quality.page import seeds

TABLE = clustering.TABLE
#: rows of ours that need labels, or that repeat what the paper did wrong
NO_RIVALS = ("masksc", *clustering.REFERENCES, "pca_raw", "nmf_raw", "random_encoder")
#: means that are nearer than this are level, however little the seeds differ
LEVEL = 0.01


def fill(folder: Folder, names: Sequence[str], n_seeds: int, methods: Sequence[str] | None = None) -> None:
    """Do the runs that are missing in ``clustering.csv``."""
    clustering.fill(folder, names, n_seeds, methods)


def section(folder: Folder) -> list[str]:
    """The tables and how rows compare, in Markdown; draws the figure."""
    clustering.draw(folder, folder.path / "masksc_table_1.png")
    scores, runs = clustering.scores(folder), folder.table(TABLE)
    lines = [
        "K-means (`n_init` 10) with the annotated number of clusters on each embedding (for `nmf_raw` the largest "
        "coefficient, as in the paper); defaults, the same for all data sets; mean ± standard deviation, "
        f"{seeds(runs)}. `masksc`, `contrastive_sc`, `scdeepcluster`, `sczidesk`, `pca_cosine` and "
        "`pca_weighed` take the same 4,096 most variable genes (all where there are fewer: of PBMC 4k, 2,000 of the "
        "16,653 genes were released). In brackets the paper's number for the method: "
        + ", ".join(f"{theirs} beside `{ours}`" for ours, theirs in ROWS.items())
        + ".\n",
        "![Scores of all rows](masksc_table_1.png)",
        *clustering.tables(folder),
        "\n### How the rows compare\n",
        "Two rows are level when their means differ by less than two standard errors, or than 0.01; of one seed the error "
        "is not known. A silhouette in a method's own space measures how compact its clusters are, not how right, and does not "
        "compare between methods.\n",
    ]
    for name in scores.names:
        lines += [*_claims(scores, name), *_rivals(scores, name), *_raw(scores, name)]
    return lines


def _claims(scores: Scores, name: str) -> list[str]:
    """MaskSC against what the paper claims for it."""
    claimed = scores.published.loc["masksc", name].dropna()
    ours = scores.mean.loc["masksc", name][claimed.index]
    if ours.isna().any() or not len(claimed):
        return []
    compared = [
        f"{measure} {'reached' if ours[measure] >= claimed[measure] else 'not reached'} ({ours[measure]:.3f}, claimed "
        f"{claimed[measure]:.3f})"
        for measure in claimed.index
    ]
    return [f"- {name}: of the paper's claims for mask-sc, {', '.join(compared)}."]


def _rivals(scores: Scores, name: str) -> list[str]:
    """Which rows found without labels are ahead of MaskSC by ARI, which are level with it."""
    ari = scores.mean[name, "ari"].dropna()
    if "masksc" not in ari:
        return []
    rivals = ari.drop([row for row in NO_RIVALS if row in ari]).sort_values(ascending=False)
    margin = {row: _margin(scores, name, row) for row in rivals.index}
    ahead = [row for row in rivals.index if rivals[row] - ari["masksc"] > margin[row]]
    level = [row for row in rivals.index if abs(rivals[row] - ari["masksc"]) <= margin[row]]
    lines = []
    if ahead:
        lines += [f"- {name}: ahead of `masksc` ({ari['masksc']:.3f}) by ARI: {_list(scores, name, ahead)}."]
    if level:
        lines += [f"- {name}: level with `masksc` ({ari['masksc']:.3f}) by ARI: {_list(scores, name, level)}."]
    if not ahead and not level:
        lines += [f"- {name}: by ARI no row without labels comes up to `masksc` ({ari['masksc']:.3f}); the next is "
                  f"{_list(scores, name, rivals.index[:1])}."]  # fmt: skip
    tuned = scores.mean.loc["pca_best_by_label", (name, "ari")] if "pca_best_by_label" in ari else math.nan
    if not math.isnan(tuned):
        word = "above" if tuned > ari["masksc"] else "below"
        lines += [f"- {name}: PCA with settings picked by the labels is {word} `masksc` ({tuned:.3f})."]
    return lines


def _margin(scores: Scores, name: str, row: str) -> float:
    """Two standard errors of the difference to MaskSC."""
    errors = [
        np.nan_to_num(scores.sd.loc[r, (name, "ari")]) ** 2 / scores.n.loc[r, (name, "ari")] for r in ("masksc", row)
    ]
    return max(2 * math.sqrt(sum(errors)), LEVEL)


def _raw(scores: Scores, name: str) -> list[str]:
    """The paper's rows of raw counts, beside the same methods done well."""
    lines = []
    for raw, done_well in (("pca_raw", "pca_standard"), ("nmf_raw", "nmf")):
        paper = scores.published.loc[raw, (name, "ari")] if raw in scores.published.index else math.nan
        if math.isnan(paper) or not {raw, done_well} <= set(scores.mean[name, "ari"].dropna().index):
            continue
        raw_ari, ari = (scores.mean.loc[row, (name, "ari")] for row in (raw, done_well))
        lines += [
            f'- {name}: the paper\'s row "{ROWS[raw]}" ({paper:.3f}) is a run on raw counts that were not normalised. '
            f"Such a run has {raw_ari:.3f} here (`{raw}`), and the method on normalised counts {ari:.3f} (`{done_well}`)."
        ]
    return lines


def _list(scores: Scores, name: str, rows: Iterable[str]) -> str:
    def text(row: str) -> str:
        seeds = ", one seed" if scores.n.loc[row, (name, "ari")] == 1 else ""
        return f"`{row}` ({scores.mean.loc[row, (name, 'ari')]:.3f}{seeds})"

    return ", ".join(map(text, rows))
