"""Table 2 of the mask-sc paper: the matrix of patches and the masked prediction of features, each left out."""

from anndata import AnnData

from sc_ssl.models import MaskSC

from ._folder import Folder
from ._published import TABLE_2
from ._rows import Embed, ours
from ._runs import markdown
from ._scores import Scores, measure, seeds

TABLE = "masksc_table_2"
#: the paper's settings (MaskSC.paper), at a width and depth that a CPU can train
SMALL_PAPER = {
    "gene_order": "square",
    "patch_embed": "conv",
    "readout": "mean",
    "weigh_genes": False,
    "n_hidden": 64,
    "n_layers": 2,
    "mlp_ratio": 4.0,
    "decoder_kwargs": {"width": 64, "n_layers": 1, "n_heads": 4},
}
#: edge of a square patch
EDGE = 4
ROWS = {
    "none": "contrastive-sc",
    "ime": "matrix of 4 × 4 patches, 75 % hidden; their genes are predicted",
    "med_masked_rows": "rows of the matrix as tokens, 75 % hidden; the frozen encoder's features of a row are predicted",
    "med_unmasked": "rows of the matrix as tokens, none hidden; the frozen encoder's features of a row are predicted",
    "both": "matrix of 4 × 4 patches, 75 % hidden; the frozen encoder's features are predicted",
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
    matrix = SMALL_PAPER | {"patch_size": EDGE**2}
    sequences = SMALL_PAPER | {"patch_size": side, "gene_order": "given", "target": "patch"}
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
    """The table, and what it says, in Markdown."""
    runs = folder.table(TABLE)
    scores = Scores.of(runs, list(ROWS), TABLE_2)
    lines = [
        "What mask-sc's two parts are worth: the matrix of patches (IME) and the masked prediction of a frozen encoder's "
        "features (MED). Without the first, two readings of the paper are possible: rows of the matrix as tokens, three "
        "quarters hidden, or none; the paper's number stands beside both. The paper's settings at a width of 64 and "
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
        lines += [f"- Both parts change the ARI of contrastive-sc by {gain:+.3f}; the paper says {claimed:+.3f}."]
    return lines
