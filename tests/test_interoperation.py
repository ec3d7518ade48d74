"""Beside the packages that users of scanpy have: each goes on from our results, and we from theirs.

A test whose package is not installed is skipped.
"""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from embedding import run

from sc_ssl.models import METHODS
from sc_ssl.tl import cluster, embed, pca_cosine

REP = "X_contrastive_sc"
#: other packages warn of each other, which is not ours to judge
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def module_cells(build_counts):
    cells = build_counts(200, 96, n_batches=2)
    run(cells, max_epochs=10)
    return cells


@pytest.fixture
def cells(module_cells):
    """200 cells of three types with an embedding."""
    return module_cells.copy()


def test_scanpy_clusters_draws_and_ranks_on_the_embedding(cells):
    sc.pp.neighbors(cells, use_rep=REP)
    sc.tl.umap(cells)
    sc.tl.leiden(cells, flavor="igraph", n_iterations=2, directed=False)
    sc.tl.paga(cells, groups="leiden")
    sc.pp.log1p(cells)
    sc.tl.rank_genes_groups(cells, "leiden", method="t-test")
    assert cells.obsm["X_umap"].shape == (200, 2)
    assert cells.uns["paga"]["connectivities"].shape[0] == cells.obs["leiden"].nunique()
    assert len(cells.uns["rank_genes_groups"]["names"]) == 96


@pytest.mark.slow  # half a minute of compiling, once
def test_scanpy_ingests_new_cells_by_the_embedding(build_counts, tmp_path):
    both = build_counts(200, 96)
    reference, query = both[:150].copy(), both[150:].copy()
    run(reference, max_epochs=10, save_model=tmp_path / "model")
    embed(query, tmp_path / "model")
    sc.pp.neighbors(reference, use_rep=REP)
    sc.tl.umap(reference)
    truth = query.obs.pop("cell_type")
    sc.tl.ingest(query, reference, obs="cell_type", embedding_method="umap")
    assert np.mean(query.obs["cell_type"].astype(str) == truth.astype(str)) > 0.9


def test_scvi_tools_models_the_same_object_before_and_after(build_counts):
    from scvi.model import SCVI

    ours, both = build_counts(120, 96, n_batches=2), build_counts(120, 96, n_batches=2)
    expected = run(ours, batch_key="donor")
    SCVI.setup_anndata(both, batch_key="donor")
    model = SCVI(both, n_hidden=8, n_latent=4)
    np.testing.assert_array_equal(run(both, batch_key="donor"), expected)
    model.train(1, accelerator="cpu", enable_progress_bar=False)
    before = model.get_latent_representation()
    METHODS["mae"].setup_anndata(both, batch_key="donor")
    np.testing.assert_array_equal(run(both, batch_key="donor"), expected)
    SCVI.setup_anndata(both)
    SCVI(both, n_hidden=8, n_latent=4).train(1, accelerator="cpu", enable_progress_bar=False)
    np.testing.assert_array_equal(model.get_latent_representation(), before)


def test_a_modality_of_mudata_is_embedded_and_kept(build_counts, tmp_path):
    mudata = pytest.importorskip("mudata")
    rna = build_counts(60, 96)
    protein = ad.AnnData(np.ones((60, 3), np.float32), obs=rna.obs[[]].copy())
    protein.var_names = ["CD3", "CD4", "CD8"]
    if hasattr(mudata, "set_options"):
        mudata.set_options(pull_on_update=False)
    joined = mudata.MuData({"rna": rna, "protein": protein})
    pca_cosine(joined["rna"], n_comps=5)
    joined.write_h5mu(tmp_path / "cells.h5mu")
    found = mudata.read_h5mu(tmp_path / "cells.h5mu")
    np.testing.assert_array_equal(found["rna"].obsm["X_pca_cosine"], joined["rna"].obsm["X_pca_cosine"])
    assert found["rna"].uns["pca_cosine"]["params"]["n_comps"] == 5


def test_spatialdata_keeps_the_embedding_and_its_record(cells, tmp_path):
    spatialdata = pytest.importorskip("spatialdata")
    data = spatialdata.SpatialData(tables={"table": cells})
    data.write(tmp_path / "cells.zarr")
    table = spatialdata.read_zarr(tmp_path / "cells.zarr").tables["table"]
    np.testing.assert_array_equal(table.obsm[REP], cells.obsm[REP])
    assert table.uns["contrastive_sc"]["params"]["method"] == "contrastive_sc"


def test_squidpy_finds_neighbourhoods_of_our_clusters(cells):
    squidpy = pytest.importorskip("squidpy")
    cells.obsm["spatial"] = cells.obsm[REP][:, :2].astype(float)
    cluster(cells, REP, n_clusters=3)
    squidpy.gr.spatial_neighbors(cells)
    squidpy.gr.nhood_enrichment(cells, cluster_key="contrastive_sc_cluster", show_progress_bar=False, n_perms=10)
    assert cells.uns["contrastive_sc_cluster_nhood_enrichment"]["zscore"].shape == (3, 3)


def test_cellmapper_maps_types_in_the_embedding(cells):
    cellmapper = pytest.importorskip("cellmapper")
    reference, query = cells[:150].copy(), cells[150:].copy()
    truth = query.obs.pop("cell_type")
    cellmapper.CellMapper(query, reference).map(obs_keys="cell_type", use_rep=REP)
    assert np.mean(query.obs["cell_type_pred"].astype(str) == truth.astype(str)) > 0.9


def test_scib_metrics_benchmarks_our_keys(cells):
    benchmark = pytest.importorskip("scib_metrics.benchmark")
    pca_cosine(cells, n_comps=10)
    cells.obsm["X_pca"] = cells.obsm["X_pca_cosine"]
    benchmarker = benchmark.Benchmarker(
        cells,
        batch_key="donor",
        label_key="cell_type",
        embedding_obsm_keys=[REP, "X_pca_cosine"],
        bio_conservation_metrics=benchmark.BioConservation(isolated_labels=False, nmi_ari_cluster_labels_kmeans=True),
        batch_correction_metrics=None,
        progress_bar=False,
    )
    benchmarker.benchmark()
    assert {REP, "X_pca_cosine"} <= set(benchmarker.get_results(min_max_scale=False).index)


def test_a_file_of_cellxgene_has_its_counts_in_raw_and_an_error_says_so(cells, tmp_path):
    """Log-normalised values in X, counts in raw, Ensembl ids as names of genes; and what we write keeps to its schema."""
    curated = build_cellxgene(cells)
    with pytest.raises(ValueError, match="must hold raw counts"):
        run(curated)
    counts = curated.raw.to_adata()
    curated.obsm["X_contrastive_sc"] = run(counts)
    curated.uns["contrastive_sc"] = counts.uns["contrastive_sc"]
    curated.write_h5ad(tmp_path / "cells.h5ad")
    found = ad.read_h5ad(tmp_path / "cells.h5ad")
    for key, value in found.obsm.items():
        assert key.startswith("X_") and np.isfinite(value).all() and value.shape[1] > 1
    assert empty(found.uns["contrastive_sc"]) == []


def build_cellxgene(cells):
    curated = ad.AnnData(cells.X.copy(), obs=cells.obs.rename(columns={"donor": "donor_id"}))
    curated.var_names = [f"ENSG{i:011}" for i in range(96)]
    curated.var["feature_name"] = [f"gene {i}" for i in range(96)]
    curated.raw = curated.copy()
    sc.pp.normalize_total(curated)
    sc.pp.log1p(curated)
    del curated.uns["log1p"]
    return curated


def empty(entry, name="uns"):
    """Names of entries without content, which the schema refuses."""
    if isinstance(entry, dict):
        inside = [found for key, value in entry.items() for found in empty(value, f"{name}/{key}")]
        return inside if entry else [name]
    return [name] if np.size(entry) == 0 or (isinstance(entry, str) and entry == "") else []
