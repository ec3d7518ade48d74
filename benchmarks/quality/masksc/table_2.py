"""Table 2 of the mask-sc paper: the matrix of patches and the masked prediction of features, each left out."""

from anndata import AnnData

from benchmarks.quality.clustering.folder import Folder
from benchmarks.quality.clustering.scores import Scores, measure
from benchmarks.quality.embeddings import Embed, ours
from benchmarks.quality.page import markdown, seeds
from sc_ssl.models import MaskSC

TABLE = "masksc_table_2"
#: ARI, NMI and silhouette on PBMC 4k; without matrix embedding (IME) and masked encoding and decoding (MED) it is contrastive-sc
PUBLISHED = {
    "pbmc4k": {
        "none": (0.6863, 0.7254, 0.5873),
        "ime": (0.7298, 0.7580, 0.6039),
        "med_masked_rows": (0.7415, 0.7756, 0.6237),
        "med_unmasked": (0.7415, 0.7756, 0.6237),
        "both": (0.8064, 0.7923, 0.6941),
    }
}
#: the paper's settings (MaskSC.paper), at a width and depth that a CPU can train
SMALL_PAPER = {
    "readout": "mean",
    "weigh_genes": False,
    "n_hidden": 64,
    "transformer": {"n_layers": 2, "mlp_ratio": 4.0},
    "decoder": {"width": 64, "n_layers": 1, "n_heads": 4},
}
#: edge of a square patch
EDGE = 4
ROWS = {
    "none": "contrastive-sc",
    "ime": "matrix of 4 × 4 patches, 75 % masked; their genes are predicted",
    "med_masked_rows": "rows of the matrix as tokens, 75 % masked; the frozen encoder's features of a row are predicted",
    "med_unmasked": "rows of the matrix as tokens, none masked; the frozen encoder's features of a row are predicted",
    "both": "matrix of 4 × 4 patches, 75 % masked; the frozen encoder's features are predicted",
    "default": "MaskSC as it is in this package",
}


def fill(folder: Folder, names: list[str], n_seeds: int) -> None:
    """Do the runs that are missing; a quick run takes the first data set."""
    names = names[:1] if folder.quick else names
    measure(folder, TABLE, {name: rows(side(folder.cells(name)), folder.max_epochs) for name in names}, n_seeds)


def side(adata: AnnData) -> int:
    """Of the largest matrix that whole patches tile and the genes fill, at most the paper's 64."""
    n_genes = int((adata.X.getnnz(axis=0) > 0).sum())
    return min(64, int(n_genes**0.5) // EDGE * EDGE)


def rows(side: int, max_epochs: int | None) -> dict[str, Embed]:
    """The settings of each row, all on the same genes."""
    matrix = SMALL_PAPER | {"patches": {"size": EDGE**2, "order": "square", "embed": "conv"}}
    sequences = SMALL_PAPER | {"patches": {"size": side, "order": "given", "embed": "conv"}, "target": "patch"}
    options = {
        "ime": matrix | {"target": "raw"},
        "med_masked_rows": sequences,
        "med_unmasked": sequences | {"mask_rate": 0.0},
        "both": matrix | {"target": "cross"},
        "default": {},
    }
    genes = {"n_top_genes": side**2}
    return {"none": ours("contrastive_sc", **genes)} | {
        row: ours("masksc", max_epochs=max_epochs, **genes, **option) for row, option in options.items()
    }


def section(folder: Folder) -> list[str]:
    """The table and what each part adds, in Markdown."""
    runs = folder.table(TABLE)
    scores = Scores.of(runs, list(ROWS), PUBLISHED)
    lines = [
        "What mask-sc's two parts add: the matrix of patches (IME) and the masked prediction of a frozen encoder's "
        "features (MED). Without the first, two readings of the paper are possible: rows of the matrix as tokens, three "
        "quarters masked, or none; the paper's number stands beside both. The paper's settings at a width of 64 and "
        f"2 + 1 blocks, {folder.max_epochs or MaskSC.training.max_epochs} epochs (the paper: 768, 12 + 8 blocks, 1,600 "
        f"epochs), {seeds(runs)}.\n",
        *(f"- `{row}`: {what}" for row, what in ROWS.items()),
    ]
    for name in scores.names:
        lines += [f"\n### {name}\n", *markdown(scores.text(runs, name), "row"), "", *_findings(scores, name)]
    return lines


def _findings(scores: Scores, name: str) -> list[str]:
    ari = scores.mean[name, "ari"].dropna()
    order = [row for row in ari.sort_values(ascending=False).index if row != "default"]
    paper = scores.published[name, "ari"].dropna().sort_values(ascending=False)
    lines = [f"- By ARI: {', '.join(f'`{row}` {ari[row]:.3f}' for row in order)}."]
    if {"both", "none"} <= set(ari.index) and len(paper):
        gain, claimed = ari["both"] - ari["none"], paper["both"] - paper["none"]
        lines += [f"- Both parts change the ARI of contrastive-sc by {gain:+.3f}; in the paper by {claimed:+.3f}."]
    return lines
