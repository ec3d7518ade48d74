"""Embed 700 blood cells without labels, cluster them, and compare with principal components: ``make demo``."""

import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

import sc_ssl

# The published labels by lineage, in colours that are alike within one.
LABELS = {
    "CD4+/CD45RA+/CD25- Naive T": "#9ecae1",
    "CD4+/CD45RO+ Memory": "#4292c6",
    "CD4+/CD25 T Reg": "#08519c",
    "CD8+/CD45RA+ Naive Cytotoxic": "#a1d99b",
    "CD8+ Cytotoxic T": "#31a354",
    "CD56+ NK": "#e6ab02",
    "CD19+ B": "#e7298a",
    "CD14+ Monocyte": "#d95f02",
    "Dendritic": "#7570b3",
    "CD34+": "#444444",
}

OUTLINE = withStroke(linewidth=3, foreground="white")

adata = sc_ssl.datasets.pbmc68k_reduced()
label = adata.obs["bulk_labels"] = adata.obs["bulk_labels"].cat.reorder_categories(list(LABELS))
adata.uns["bulk_labels_colors"] = list(LABELS.values())

sc_ssl.tl.embed(adata, method="masksc")
sc_ssl.tl.cluster(adata)  # into a number of clusters that is chosen without labels
adata.obsm["X_pca"] = sc_ssl.metrics.pca_space(adata.X)

# How well groups of cells agree with the published labels: 1 for the same groups, about 0 for random ones. K-means gets
# as many clusters as there are labels, the same for both spaces; the clusters' number was chosen without labels.
scores = {
    "masksc": sc_ssl.metrics.clustering(adata.obsm["X_masksc"], label),
    "PCA": sc_ssl.metrics.clustering(adata.obsm["X_pca"], label),
    "clusters": sc_ssl.metrics.clustering(adata.obsm["X_masksc"], label, clusters=adata.obs["masksc_cluster"]),
}
record = adata.uns["masksc"]
print(f"\n{adata.n_obs} cells, {len(record['genes']['names'])} genes used, embedded in {record['seconds']:.0f} s\n")
print(f"{'K-means on':<12}{'ARI':>6}{'NMI':>6}   (agreement with the published labels; 1: the same groups)")
for name in ("masksc", "PCA"):
    print(f"{name:<12}{scores[name]['ari']:>6.2f}{scores[name]['nmi']:>6.2f}")

for key in ("masksc", "pca"):
    sc.pp.neighbors(adata, use_rep=f"X_{key}", key_added=key)
    sc.tl.umap(adata, neighbors_key=key, key_added=f"X_umap_{key}")

panels = [
    ("X_umap_masksc", "masksc_cluster", "masksc: clusters, found without labels", "clusters"),
    ("X_umap_masksc", "bulk_labels", "masksc: published cell types", "masksc"),
    ("X_umap_pca", "bulk_labels", "PCA: published cell types", "PCA"),
]
figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for ax, (basis, color, title, row) in zip(axes, panels, strict=True):
    sc.pl.embedding(adata, basis, color=color, size=50, ax=ax, show=False)
    agreement = f"ARI {scores[row]['ari']:.2f}, NMI {scores[row]['nmi']:.2f}"
    ax.set_title(f"{title}\n{agreement if row == 'clusters' else f'K-means on it: {agreement}'}", fontsize=12)
    ax.set(xlabel="UMAP 1", ylabel="UMAP 2", box_aspect=1, xmargin=0.12, ymargin=0.08)
    ax.get_legend().remove()
for cluster, cells in adata.obs.groupby("masksc_cluster", observed=True).indices.items():
    middle = np.median(adata.obsm["X_umap_masksc"][cells], axis=0)
    axes[0].annotate(cluster, middle, (7, 4), textcoords="offset points", weight="bold", path_effects=[OUTLINE])
handles = [Line2D([], [], marker="o", linestyle="", color=value, label=name) for name, value in LABELS.items()]
figure.legend(
    handles=handles,
    loc="outside right center",
    title="published cell type",
    frameon=False,
    title_fontsize=12,
    fontsize=11,
)
figure.savefig("demo.png", dpi=110)
adata.write_h5ad("demo.h5ad")
print("\nWrote demo.h5ad and demo.png")
