"""CellLM: an embedding that depends on a cell's expression alone, its terms, its options and what it refuses."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.spatial.distance import pdist

from sc_ssl.data import batch_statistics, principal_components
from sc_ssl.models import CellLM
from sc_ssl.tl import embed

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}
SMALL = {"n_latent": 16, "transformer": {"n_layers": 2, "n_heads": 2}}


def build(adata, setup=None, **options):
    torch.manual_seed(0)
    CellLM.setup_anndata(adata, **(setup or {}))
    return CellLM(adata, **SMALL | options)


def fit(adata, *, max_epochs=1, setup=None, lr=2e-3, **options):
    model = build(adata, setup, **options)
    model.train(max_epochs, plan_kwargs={"lr": lr}, **QUICK)
    return model


def silence(adata, *, cells=(), genes=()):
    """Take away the counts of these cells and genes."""
    x = adata.X.toarray()
    x[list(cells)], x[:, list(genes)] = 0, 0
    adata.X = sparse.csr_matrix(x)


OPTIONS = [
    {},
    {"tokens": {"values": "quantile"}},
    {"tokens": {"values": "log2"}},
    {"transformer": {"n_heads": 2, "attention": "performer"}},
    {"pooling": "cls", "transformer": {"n_heads": 2, "head_width": 4}},
    {"tokens": {"max_genes": 9, "max_training_genes": 9}},
    {"tokens": {"max_genes": None, "max_training_genes": None}, "view": {"thinning_rate": 0.5}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=[str(options) for options in OPTIONS])
def test_a_cells_embedding_depends_on_its_expression_alone(build_counts, monkeypatch, options):
    counts = build_counts(60, depth=1.0)
    model = fit(counts, **options)
    z = model.get_latent_representation()
    assert np.isfinite(z).all() and z.std(axis=0).max() > 1e-3

    def same(found, expected):
        np.testing.assert_allclose(found, expected, atol=1e-5)

    same(np.concatenate([model.get_latent_representation(indices=[i]) for i in range(8)]), z[:8])
    same(model.get_latent_representation(indices=np.arange(60)[::-1]), z[::-1])
    monkeypatch.setattr("sc_ssl.models.celllm.module.MAX_TOKENS", 300)  # parts of a few cells, other padding
    same(model.get_latent_representation(), z)
    other = ad.AnnData(sparse.csr_matrix((60, 5)), obs=counts.obs, var=pd.DataFrame(index=[f"o{i}" for i in range(5)]))
    more = ad.concat([counts, other], axis=1, merge="first")
    same(model.get_latent_representation(more[:, np.random.default_rng(0).permutation(more.n_vars)].copy()), z)


def test_genes_that_no_cell_expresses_change_nothing(build_counts):
    counts = build_counts(60)
    silence(counts, genes=range(10, 20))
    model = build(counts)
    module, cells = model.module.eval(), next(iter(model._loader(model._own_cells())))
    z = module.embed(cells)
    with torch.no_grad():
        module.genes.learned.weight[10:20] += 100
    torch.testing.assert_close(module.embed(cells), z)


def test_max_genes_shows_the_most_expressed_ones(counts):
    model = fit(counts, tokens={"max_genes": 5})
    z = model.get_latent_representation()
    x = counts.X.toarray()
    lowest = x[0, :].argmin()  # not among the five of the highest counts
    x[0, np.flatnonzero(x[0] > 0)[x[0, x[0] > 0].argmin()]] = 0
    other = ad.AnnData(sparse.csr_matrix(x), obs=counts.obs, var=counts.var)
    assert lowest not in np.argsort(-x[0])[:5]
    model.module.normalize.by_library = False
    np.testing.assert_allclose(
        model.get_latent_representation(other, indices=[0]), model.get_latent_representation(indices=[0]), atol=1e-6
    )
    assert z.shape == (120, 16)


def test_before_training_a_cell_is_its_principal_components(build_counts):
    counts = build_counts(60, n_batches=2)
    model = build(counts, {"batch_key": "donor"}, n_start_components=4)
    module, cells = model.module.eval(), model._own_cells()
    module.transformer.norm = torch.nn.Identity()
    z_nd = module.embed(next(iter(model._loader(cells)))).detach().numpy()
    weight_g = module.normalize.weight_g.numpy()
    statistics = batch_statistics(cells, n_batch=2, log_input=False)
    expected_nc = principal_components(cells, n_comps=4, statistics=statistics, weight_g=weight_g)
    # turned, moved and scaled: distances between cells are the same but for a factor
    found, expected = pdist(z_nd), pdist(expected_nc)
    np.testing.assert_allclose(found / found.mean(), expected / expected.mean(), rtol=1e-3)


def test_hidden_expression_is_predicted_from_the_cell_and_scored_where_it_is_not_seen(counts):
    view = {"gene_dropout_rate": 0.5, "thinning_rate": 0.0}
    model = build(counts, view=view, tokens={"max_training_genes": None})
    module, cells = model.module, next(iter(model._loader(model._own_cells())))
    pooled_nd = torch.randn(120, 16)
    tokens = module.draw(module.tokens(module.normalize.log_expression(cells)))
    error, n = module.unseen_error(pooled_nd, tokens, cells)
    z_ng = module.normalize(cells)
    expected, n_unseen = 0.0, 0
    for i in range(120):
        unseen = np.setdiff1d(np.arange(96), tokens.gene_nt[i].numpy())
        predicted = module.query(pooled_nd[i]) @ module.genes.learned.weight[unseen].T
        expected, n_unseen = expected + ((predicted - z_ng[i, unseen]) ** 2).sum().item(), n_unseen + len(unseen)
    assert n == n_unseen and error.item() == pytest.approx(expected, rel=1e-4)


def test_masked_values_are_learned(build_counts):
    loss = fit(build_counts(), max_epochs=12, weights={"contrastive": 0.0}).history["masked_train"]["masked_train"]
    assert loss.iloc[-3:].mean() < 0.9 * loss.iloc[:2].mean()


def test_hidden_values_are_not_seen(counts, monkeypatch):
    monkeypatch.setattr("sc_ssl.models.celllm.view.HIDDEN_RATE", 1.0)
    view = {"gene_dropout_rate": 0.0, "thinning_rate": 0.0, "mask_rate": 1.0, "predict_from": "token"}
    transformer = SMALL["transformer"] | {"dropout_rate": 0.0}
    model = build(counts, view=view, pooling="mean", transformer=transformer, tokens={"max_training_genes": None})
    cells = next(iter(model._loader(model._own_cells())))
    doubled = cells | {"X": cells["X"] * 2}  # the library size stays
    torch.testing.assert_close(model.module.encode_view(cells).z_nd, model.module.encode_view(doubled).z_nd)


def test_validation_compares_two_different_views(counts):
    model = build(counts, weights={"contrastive": 1.0})
    model.train(2, validation_size=0.3, **QUICK)
    identical = float(
        torch.nn.functional.cross_entropy(
            torch.tensor([[1 / model.module.temperature] + [0.0] * 70]), torch.tensor([0])
        )
    )
    assert model.history["contrastive_validation"].to_numpy().min() > identical / 2
    model.module.eval()
    cells = next(iter(model._loader(model._own_cells())))
    with torch.no_grad():
        assert not torch.allclose(model.module.encode_view(cells).z_nd, model.module.encode_view(cells).z_nd)


def test_paper_has_the_published_sizes():
    genes = [f"g{i}" for i in range(30)]
    cells = ad.AnnData(sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (12, 30)).astype(np.float32)))
    cells.var_names = genes
    CellLM.setup_anndata(cells)
    model = CellLM.paper(cells, transformer={"dropout_rate": 0.2})  # a setting that differs leaves the others published
    assert model.module.dropout.p == 0.2
    # 42.0 M: the figure counts q, k and v without bias
    biases = 10 * 3 * 1024
    block = sum(p.numel() for p in model.module.transformer.blocks.parameters()) - biases
    assert block == 41_994_240
    assert model.module.values.n_bins == 6
    assert model.module.transformer.blocks[0].attention.qkv.out_features == 3 * 16 * 64


# given vectors of genes


@pytest.mark.parametrize("frozen", [True, False])
def test_given_vectors_are_kept_frozen_or_not_and_saved(counts, tmp_path, warnings_logged, frozen):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 7)), index=counts.var_names[::-1][:80])
    model = fit(counts, gene_embeddings=table, freeze_gene_embeddings=frozen)
    assert "16 of 96 genes have no given vector and learn one: 'gene_0'" in " ".join(warnings_logged())
    given = model.module.genes.given_gw[:-1][16:].detach().numpy()
    expected = table.loc[counts.var_names[16:]].to_numpy(np.float32)
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(given, expected / np.sort(lengths, axis=0)[39], atol=1e-6) == frozen
    model.save(tmp_path / "model")
    loaded = CellLM.load(tmp_path / "model", counts)
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    vectors = model.get_gene_embeddings()
    assert vectors.shape == (96, 16) and list(vectors.index) == list(counts.var_names)


def test_given_vectors_add_to_the_start_from_components_or_alone_make_a_genes_vector(counts):
    table = pd.DataFrame(np.random.default_rng(0).normal(scale=1e-3, size=(80, 7)), index=counts.var_names[::-1][:80])
    plain, added = build(counts), build(counts, gene_embeddings=table)
    first, second = (model.get_gene_embeddings().to_numpy() for model in (plain, added))
    np.testing.assert_allclose(first @ first.T, second @ second.T, atol=1e-4)  # turned at random
    added.train(1, accelerator="cpu", enable_progress_bar=False)
    assert added.module.genes.map.weight.abs().min() > 0
    alone = build(counts, gene_embeddings=table, n_start_components=0)
    lengths = np.linalg.norm(alone.get_gene_embeddings(), axis=1)
    assert 0.3 < np.median(lengths[16:]) / np.median(lengths[:16]) < 3  # neither drowns the other
    before = alone.get_gene_embeddings()
    with torch.no_grad():
        alone.module.genes.learned.weight.add_(1.0)
    changed = np.abs(alone.get_gene_embeddings() - before).max(axis=1) > 0
    assert changed[:16].all() and not changed[16:].any()


def test_given_vectors_in_varm_reach_the_model_through_embed(counts):
    counts.varm["X_ppi"] = np.random.default_rng(0).normal(size=(96, 7))
    options = {"gene_embeddings": "X_ppi", "max_epochs": 1, "train_kwargs": {"enable_progress_bar": False}}
    embed(counts, "celllm", n_top_genes=50, **options, **SMALL)
    assert counts.obsm["X_celllm"].shape == (120, 16)


def test_unknown_vectors_are_refused(counts):
    with pytest.raises(KeyError, match="'X_ppi' is not in adata.varm"):
        build(counts, gene_embeddings="X_ppi")
    with pytest.raises(TypeError, match="index, found a ndarray"):
        build(counts, gene_embeddings=np.ones((96, 3)))
    with pytest.raises(ValueError, match="one vector for each gene, found more for 'gene_1'"):
        build(counts, gene_embeddings=pd.DataFrame(np.ones((2, 3)), index=["gene_1"] * 2))
    with pytest.raises(ValueError, match="found others in its column 'symbol'"):
        build(counts, gene_embeddings=pd.DataFrame({"x": 1.0, "symbol": counts.var_names}, index=counts.var_names))
    counts.varm["X_other"] = np.ones((96, 2))
    for options, message in (
        ({"gene_embeddings": "X_ppi"}, "'X_ppi' is not in adata.varm, which has X_other"),
        ({"malignancy_key": "tumour"}, "'tumour' is not in adata.obs, which has cell_type, donor"),
    ):
        with pytest.raises(KeyError, match=message):
            embed(counts, "celllm", **options)
    with pytest.raises(ValueError, match="none of the model's genes, such as 'gene_0'.* such as 'ENSG1'"):
        build(counts, gene_embeddings=pd.DataFrame(np.ones((1, 3)), index=["ENSG1"]))


# malignancy


def test_malignant_cells_are_told(build_counts, tmp_path):
    counts = build_counts(180)
    counts.obs["tissue"] = np.where(counts.obs["cell_type"] == "type_0", "tumour", "healthy").astype(object)
    counts.obs.loc[counts.obs_names[:20], "tissue"] = None
    model = fit(counts, max_epochs=25, lr=5e-3, n_latent=32, malignancy_key="tissue", malignant_category="tumour")
    found = model.get_malignancy_probability()
    truth = (counts.obs["cell_type"] == "type_0").to_numpy()
    assert found.shape == (180,) and ((0 <= found) & (found <= 1)).all()
    assert ((found > 0.5) == truth).mean() > 0.9
    model.save(tmp_path / "model")
    again = CellLM.load(tmp_path / "model", counts)
    np.testing.assert_allclose(again.get_malignancy_probability(), found, atol=1e-6)
    again.train(1, **QUICK)


def test_malignancy_through_embed(counts):
    counts.obs["tumour"] = np.arange(120) % 2 == 0
    options = {"malignancy_key": "tumour", "max_epochs": 1, "train_kwargs": {"enable_progress_bar": False}}
    embed(counts, "celllm", **options, **SMALL)
    assert "malignancy_train" in counts.uns["celllm"]["history"]


def test_a_label_that_is_a_batch_in_disguise_is_warned_about(build_counts, warnings_logged):
    counts = build_counts(n_batches=4)
    setup = {"batch_key": "donor"}
    counts.obs["tumour"] = np.arange(120) % 2 == 0
    build(counts.copy(), setup, malignancy_key="tumour")
    assert "batch determines" not in " ".join(warnings_logged())
    counts.obs["tumour"] = counts.obs["donor"].isin(["donor_0", "donor_1"]).to_numpy()
    build(counts, setup, malignancy_key="tumour")
    assert "The batch determines obs['tumour'] for 100 % of the cells" in " ".join(warnings_logged())


def one_class(counts):
    counts.obs["label"] = True


def two_names(counts):
    counts.obs["label"] = ["tumour", "healthy"] * 60


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (
            two_names,
            {"malignancy_key": "label"},
            ValueError,
            "'tumour', 'healthy'; specify which one .* malignant_category",
        ),
        (one_class, {"malignancy_key": "label"}, ValueError, "found 'True' only; leave out malignancy_key"),
        (
            two_names,
            {"malignancy_key": "label", "malignant_category": "x"},
            ValueError,
            "'tumour', 'healthy' only and no 'x'",
        ),
        (two_names, {"malignancy_key": "nowhere"}, KeyError, "'nowhere' is not in adata.obs"),
        (None, {"tokens": {"values": "raw"}}, ValueError, "'continuous', 'quantile', 'log2', found 'raw'"),
        (
            None,
            {"tokens": {"values": "log2"}, "view": {"predict_from": "cell"}},
            ValueError,
            "values='continuous', found values='log2'",
        ),
        (None, {"pooling": "max"}, ValueError, "'mean', 'cls', found 'max'"),
        (None, {"tokens": {"max_genes": 0}}, ValueError, "max_genes is a whole number, at least 1, found 0"),
        (
            None,
            {"tokens": {"max_training_genes": 2.5}},
            ValueError,
            "max_training_genes is a whole number, at least 1, found 2.5",
        ),
        (None, {"tokens": {"n_bins": 1}}, ValueError, "n_bins is a whole number, at least 2, found 1"),
        (None, {"tokens": {"max_gene": 9}}, ValueError, "tokens has no setting 'max_gene'; it has .*, 'max_genes'"),
        (None, {"transformer": {"depth": 9}}, ValueError, "transformer has no setting 'depth'; it has 'n_layers'"),
        (None, {"transformer": {"n_layers": 0}}, ValueError, "n_layers is a whole number, at least 1, found 0"),
        (None, {"view": {"dropout": 0}}, ValueError, "view has no setting 'dropout'; it has 'gene_dropout_rate'"),
        (None, {"weights": {"mask": 1}}, ValueError, "weights has no setting 'mask'; it has 'contrastive', 'masked'"),
        (None, {"weights": 1.0}, TypeError, "weights is a mapping of settings, such as .*, found 1.0"),
        (None, {"n_start_components": -3}, ValueError, "n_start_components is a whole number, at least 0, found -3"),
        (None, {"malignant_category": "tumour"}, ValueError, "'tumour' is of a column: name it with malignancy_key"),
        (None, {"view": {"mask_rate": 0}}, ValueError, r"mask_rate lies in \(0, 1\], found 0"),
        (None, {"tokens": {"target_sum": 1e4}}, ValueError, "target_sum is for values='log2'"),
        (None, {"temperature": 0}, ValueError, "temperature is above 0"),
        (None, {"weights": {"contrastive": -1}}, ValueError, r"weights\['contrastive'\] is at least 0, found -1"),
        (
            None,
            {"weights": {"contrastive": 0, "masked": 0}},
            ValueError,
            "one of the weights of contrastive, .* is above 0",
        ),
        (None, {"view": {"gene_dropout_rate": 1}}, ValueError, r"gene_dropout_rate lies in \[0, 1\), found 1"),
    ],
)
def test_bad_settings_are_refused_by_name(counts, change, options, error, message):
    if change:
        change(counts)
    with pytest.raises(error, match=message):
        build(counts, **options)


def test_cells_without_expressed_genes_are_named_and_harm_no_other(counts, warnings_logged):
    silence(counts, cells=(3, 7))
    model = fit(counts)
    assert "2 cells express none of the model's genes, the first 'cell_3'" in " ".join(warnings_logged())
    z = model.get_latent_representation()
    assert np.isfinite(z).all()
    np.testing.assert_allclose(z[3], z[7], atol=1e-6)


def test_long_cells_are_warned_about(counts, warnings_logged, monkeypatch):
    monkeypatch.setattr("sc_ssl.models.celllm.model.MANY_TOKENS", 50)
    fit(counts, tokens={"max_training_genes": None})
    assert "attention takes long and much memory; set max_training_genes" in " ".join(warnings_logged())
    n_expressed = np.diff(counts.X.indptr)
    assert f"{counts.obs_names[n_expressed.argmax()]!r} expresses {n_expressed.max()} genes" in " ".join(
        warnings_logged()
    )


def test_cells_that_are_cut_are_spoken_of(counts, logged):
    n_expressed = np.diff(counts.X.indptr)
    model = fit(counts, tokens={"max_genes": 60})
    n_cut, first = (n_expressed > 60).sum(), (n_expressed > 60).argmax()
    said = (
        f"Embeddings are of the 60 most expressed genes; {n_cut} of the cells express more, 'cell_{first}' for example"
    )
    assert logged().count(said) == 1
    model.get_latent_representation(counts[first : first + 1].copy())
    assert f"; 1 of the cells express more, 'cell_{first}' for example {n_expressed[first]}." in logged()
    assert "of 0 cells" not in logged()


def test_thinning_needs_counts(counts):
    counts.X = np.log1p(counts.X / 3)
    with pytest.raises(ValueError, match="thinning_rate acts on raw counts"):
        build(counts, {"input": "log1p"}, view={"thinning_rate": 0.5})
    assert np.isfinite(fit(counts, setup={"input": "log1p"}).get_latent_representation()).all()
