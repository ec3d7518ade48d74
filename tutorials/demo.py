"""Embed 700 blood cells without labels, cluster them, and compare with principal components: ``make demo``."""

import matplotlib.pyplot as plt
import scanpy as sc

import sc_ssl

adata = sc_ssl.datasets.pbmc68k_reduced()

sc_ssl.tl.embed(adata, method="masksc")

sc.pp.neighbors(adata, use_rep="X_masksc")
sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
sc.tl.umap(adata)

# K-means with as many clusters as there are annotated types, the same for both spaces.
adata.obsm["X_pca_space"] = sc_ssl.metrics.pca_space(adata.X)
record = adata.uns["masksc"]
print(f"\n{adata.n_obs} cells, {len(record['genes']['names'])} genes used, embedded in {record['seconds']:.0f} s\n")
print(f"{'K-means on':<12}{'ARI':>6}{'NMI':>6}   (against obs['bulk_labels'])")
for name, key in {"masksc": "X_masksc", "PCA": "X_pca_space"}.items():
    scores = sc_ssl.metrics.clustering(adata.obsm[key], adata.obs["bulk_labels"])
    print(f"{name:<12}{scores['ari']:>6.2f}{scores['nmi']:>6.2f}")

figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
for ax, column, title in zip(axes, ["leiden", "bulk_labels"], ["cluster", "published label"], strict=True):
    sc.pl.umap(adata, color=column, title=title, ax=ax, show=False)
figure.savefig("demo.png", dpi=120)
adata.write_h5ad("demo.h5ad")
print("\nWrote demo.h5ad and demo.png")
