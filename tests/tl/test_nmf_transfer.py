"""NMF from a source to a target: genes by name, θ without labels, and when a source helps."""

import numpy as np
import pytest

from sc_ssl import datasets
from sc_ssl.data import Cells
from sc_ssl.tl import nmf_transfer
from sc_ssl.tl._nmf import Scale, coefficients, relative_error


@pytest.fixture
def source(build_counts):
    return build_counts(300, 96, seed=0)


@pytest.fixture
def target(build_counts):
    """Cells of the same types (markers and all) as the source's."""
    return build_counts(300, 96, seed=0)[::5].copy()


def test_programmes_times_coefficients_give_the_error_written(counts):
    nmf_transfer(counts, n_components=5)
    done = counts.uns["nmf"]
    assert done["programs"].shape == (5, 96)
    assert (done["programs"] >= 0).all() and (counts.obsm["X_nmf"] >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(done["programs"], axis=1), 1, rtol=1e-5)
    assert 0 < done["error"] < 1
    assert "theta" not in done


def test_the_weight_is_that_of_the_largest_alignment(target, source):
    nmf_transfer(target, source, n_components=5)
    done = target.uns["nmf"]
    tried = done["alignment"]
    np.testing.assert_allclose(tried["theta"], np.arange(11) / 10)
    assert ((tried["alignment"] >= 0) & (tried["alignment"] <= 1)).all()
    assert done["theta"] == tried["theta"][tried["alignment"].argmax()]
    assert done["transferability"]["score"] > 0.5
    assert done["transferability"]["p_value"] == 0.02


def test_a_given_weight_is_taken(target, source):
    nmf_transfer(target, source, n_components=5, theta=1.0)
    assert target.uns["nmf"]["theta"] == 1
    assert "alignment" not in target.uns["nmf"]
    at_1 = target.uns["nmf"]["programs"]
    nmf_transfer(target, source, n_components=5, theta=0.0)
    assert not np.allclose(target.uns["nmf"]["programs"], at_1, atol=0.05)


def test_at_full_weight_the_programmes_are_the_sources(target, source):
    nmf_transfer(target, source, n_components=5, theta=1.0, n_top_genes=None)
    nmf_transfer(source, n_components=5, n_top_genes=None)
    genes = [list(adata.uns["nmf"]["genes"]["names"]) for adata in (target, source)]
    order = [genes[1].index(gene) for gene in genes[0]]
    cosine = target.uns["nmf"]["programs"] @ source.uns["nmf"]["programs"][:, order].T
    np.testing.assert_allclose(cosine.max(axis=1), 1, atol=1e-3)


def test_genes_are_matched_by_name(target, source):
    nmf_transfer(target, source, n_components=5)
    expected = target.obsm["X_nmf"]
    nmf_transfer(target, source[:, ::-1].copy(), n_components=5)
    np.testing.assert_allclose(target.obsm["X_nmf"], expected, atol=1e-2)


def test_only_genes_in_common_are_used_and_the_source_is_left_alone(target, source):
    source = source[:, 20:].copy()
    before = source.copy()
    narrow = target[:, :80].copy()
    nmf_transfer(narrow, source, n_components=5)
    assert set(narrow.uns["nmf"]["genes"]["names"]) == {f"gene_{i}" for i in range(20, 80)}
    assert (source.X != before.X).nnz == 0
    assert source.obs.equals(before.obs) and list(source.uns) == list(source.obsm) == []


def test_labels_of_the_source_are_taken(target, source):
    nmf_transfer(target, source, n_components=3, labels_key="cell_type", theta=1.0)
    z, types = target.obsm["X_nmf"], target.obs["cell_type"]
    largest = {kind: z[types == kind].mean(axis=0).argmax() for kind in types.unique()}
    assert sorted(largest.values()) == [0, 1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_a_source_explains_new_counts_of_few_cells_better_than_they_do_themselves(seed):
    """40 real cells with half of their counts; the other half judges their own programmes and those of 660 others."""
    every = datasets.pbmc68k_reduced()
    rng = np.random.default_rng(seed)
    order = rng.permutation(every.n_obs)
    few, others = every[order[:40]].copy(), every[order[40:]].copy()
    held_out = few.copy()
    few.X.data = rng.binomial(few.X.data.astype(int), 0.5).astype(np.float32)
    held_out.X = held_out.X - few.X
    errors = []
    for theta in (0.0, 1.0):
        nmf_transfer(few, others, theta=theta)
        names, program = list(few.uns["nmf"]["genes"]["names"]), few.uns["nmf"]["programs"]
        cells = Cells.from_anndata(held_out[:, names].copy(), names)
        x = Scale.of(cells)(cells.matrix, cells.library_size)
        errors.append(relative_error(x, coefficients(x, program), program))
    assert errors[1] < 0.98 * errors[0]


MISTAKES = {
    "no genes in common": (
        {"var_names": "ENSG"},
        {},
        ValueError,
        "5 genes in common, found 0; .* 'gene_0', .* 'ENSG0'",
    ),
    "types": (
        {},
        {"labels_key": "cell_type", "n_components": 2},
        ValueError,
        "names 3 types, more than n_components=2",
    ),
    "labels": ({}, {"labels_key": "kind"}, KeyError, "'kind' is not in adata.obs"),
    "theta": ({}, {"theta": 1.5}, ValueError, r"in \[0, 1\], found 1.5"),
    "components": ({}, {"n_components": 0}, ValueError, "n_components is at least 1, found 0"),
    "log1p": ({"log1p": True}, {}, ValueError, r"source: X must hold raw counts .* layer=\.$"),
}


@pytest.mark.parametrize(("change", "options", "error", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named_and_nothing_is_written(target, source, change, options, error, message):
    if "var_names" in change:
        source.var_names = [f"ENSG{i}" for i in range(source.n_vars)]
    if "log1p" in change:
        source.X = source.X.log1p()
    with pytest.raises(error, match=message):
        nmf_transfer(target, source, **{"n_components": 5} | options)
    assert not target.obsm and not target.uns


@pytest.mark.parametrize("options", [{"theta": 0.5}, {"labels_key": "cell_type"}])
def test_options_of_a_source_need_one(counts, options):
    with pytest.raises(ValueError, match="pass source= too, or leave them out"):
        nmf_transfer(counts, **options)


def test_a_source_that_is_no_anndata_is_refused(counts):
    with pytest.raises(TypeError, match="expected an AnnData, found csr_matrix"):
        nmf_transfer(counts, counts.X)
