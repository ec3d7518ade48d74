"""Several data sets as one AnnData: what it holds, and that the data sets are left as they were."""

import numpy as np
import pytest
from small_studies import studies

from sc_ssl import pp


@pytest.fixture
def data(build_counts):
    return studies(build_counts)


def test_counts_are_those_of_each_data_set_by_name(data):
    joined = pp.join_studies(data)
    assert list(joined.var_names) == sorted(set(data["first"].var_names) | set(data["second"].var_names))
    for name, adata in data.items():
        cells = joined[[f"{name}:{cell}" for cell in adata.obs_names], adata.var_names]
        np.testing.assert_array_equal(cells.X.toarray(), adata.X.toarray())
        assert (cells.obs["dataset"] == name).all()


def test_a_gene_is_marked_as_measured_where_it_was(data):
    measured = pp.join_studies(data).varm["measured"]
    assert list(measured) == list(data)
    for name, adata in data.items():
        np.testing.assert_array_equal(measured[name], measured.index.isin(adata.var_names))


def test_library_sizes_are_over_all_genes_of_a_data_set(data):
    joined = pp.join_studies(data, n_top_genes=20, min_datasets=2)
    sizes = np.concatenate([np.asarray(adata.X.sum(axis=1)).ravel() for adata in data.values()])
    assert joined.n_vars == 20
    np.testing.assert_allclose(joined.obs["sc_ssl_library_size"], sizes)


def test_the_species_is_that_of_the_names(data):
    assert pp.join_studies(data, species=dict.fromkeys(data, "human")).uns["species"] == "human"


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_columns_of_one_gene_are_summed_and_data_sets_are_not_changed(data):
    first = data["first"]
    first.var_names = ["TWICE", "TWICE", *first.var_names[2:]]
    before = first.copy()
    joined = pp.join_studies(data)
    cells = joined.obs["dataset"] == "first"
    np.testing.assert_array_equal(
        joined[cells, "TWICE"].X.toarray().ravel(), np.asarray(before.X[:, :2].sum(axis=1)).ravel()
    )
    assert first.var_names.equals(before.var_names)
    assert first.obs.equals(before.obs)
    assert (first.X != before.X).nnz == 0
