import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.figure import Figure

from sc_ssl import pl


def explained():
    genes = [f"gene_{g}" for g in range(6)]
    rows = [
        {"kind": "group", "group": group, "names": gene, "scores": score, "logfoldchanges": change}
        for group, scores in {"B 2": [5, 4, 3, 2, 1, -1], "B 10": [1, 9, 2, 0, 0, 0]}.items()
        for gene, score, change in zip(genes, scores, [1, -1, 1, 1, 1, 1], strict=True)
    ]
    table = pd.DataFrame(rows).sort_values(["group", "scores"], ascending=False)
    table["pct_nz_group"] = 0.5
    uns = {"mae_explained": {"genes": table, "summary": pd.DataFrame()}}
    return AnnData(np.zeros((2, 6)), var=pd.DataFrame(index=genes), uns=uns)


def names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_a_panel_a_group_has_the_genes_that_it_expresses_more_the_largest_first():
    first, second = pl.explain(explained(), "mae", n_genes=3, show=False)
    assert (first.get_title(), second.get_title()) == ("B 2", "B 10")
    assert names(first) == ["gene_0", "gene_2", "gene_3"]
    assert [bar.get_width() for bar in first.patches] == [5, 3, 2]
    assert names(second)[:2] == ["gene_2", "gene_0"]


@pytest.mark.parametrize("kind", ["dot", "heatmap"])
def test_a_matrix_has_the_top_genes_of_all_groups_scaled_by_group(kind):
    ax = pl.explain(explained(), "mae", kind=kind, n_genes=1, show=False)
    assert names(ax) == ["B 2", "B 10"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["gene_0", "gene_2"]
    drawn = ax.collections[0] if kind == "dot" else ax.images[0]
    np.testing.assert_allclose(np.ravel(drawn.get_array()), [1, 3 / 5, 0.5, 1])


def test_groups_are_chosen_and_the_figure_returned():
    assert isinstance(pl.explain(explained(), "mae_explained", groups=["B 10"], return_fig=True), Figure)
    with pytest.raises(KeyError, match="no group 'T'"):
        pl.explain(explained(), "mae", groups=["T"])
    with pytest.raises(KeyError, match="it has 'mae_explained'"):
        pl.explain(explained(), "masksc")


def test_programmes_have_their_genes_of_largest_weight():
    cells = explained()
    weights = np.array([[0, 1], [3, 0], [2, 0], [0, 0], [0, 5], [1, 0]])
    cells.varm["nmf_programs"] = pd.DataFrame(weights, cells.var_names, ["nmf_0", "nmf_1"])
    first, second = pl.programs(cells, n_genes=2, show=False)
    assert (names(first), names(second)) == (["gene_1", "gene_2"], ["gene_4", "gene_0"])
    with pytest.raises(KeyError, match="'nmf_7'"):
        pl.programs(cells, names=["nmf_7"])
    with pytest.raises(KeyError, match="nmf_transfer"):
        pl.programs(cells, "other")
