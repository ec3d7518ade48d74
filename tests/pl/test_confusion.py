import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.figure import Figure

from sc_ssl import pl


def cells(**columns):
    n = len(next(iter(columns.values())))
    return AnnData(obs=pd.DataFrame(columns, index=[f"cell_{i}" for i in range(n)]))


ANNOTATED = cells(truth=list("aaaabbcc"), found=["a", "a", "a", "b", "b", "b", "c", None])


def draw(adata=ANNOTATED, truth="truth", predicted="found", **options):
    return pl.confusion(adata, truth, predicted, show=False, **options)


def table(ax):
    names = [[label.get_text() for label in axis.get_ticklabels()] for axis in (ax.yaxis, ax.xaxis)]
    return pd.DataFrame(ax.images[0].get_array().data, *names)


def test_shares_of_each_annotated_type_stand_in_rows_that_sum_to_one():
    ax = draw()
    assert table(ax).loc["a"].to_dict() == {"a": 0.75, "b": 0.25, "c": 0}
    np.testing.assert_allclose(table(ax).sum(axis=1), 1)
    assert ax.get_title() == "86% of 7 cells agree"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("found", "truth")
    np.testing.assert_allclose(table(draw(normalize="predicted")).sum(axis=0), 1)
    assert table(draw(normalize=None)).to_numpy().sum() == 7


def test_clusters_are_ordered_so_that_most_cells_lie_on_the_diagonal():
    truth = np.repeat([f"type {i}" for i in range(12)], 5)
    found = np.repeat([str((7 * i + 3) % 12) for i in range(12)], 5)
    drawn = table(draw(cells(truth=truth, found=found)))
    assert (np.diag(drawn) == 1).all()
    assert list(drawn.index) == [f"type {i}" for i in range(12)]  # 2 before 10


def test_types_that_were_never_predicted_and_unknown_cells_have_their_place():
    drawn = table(draw(cells(truth=list("abc"), found=["a", "a", "Unknown"]), normalize=None))
    assert list(drawn.columns) == ["a", "Unknown"] and list(drawn.index) == ["a", "b", "c"]


def test_many_types_have_no_numbers_and_few_have():
    names = [f"t{i}" for i in range(40)]
    assert not draw(cells(truth=names, found=names)).texts
    assert len(draw().texts) == 4
    assert isinstance(draw(return_fig=True), Figure)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"predicted": "none"}, KeyError, "'none' is not a column of adata.obs"),
        ({"normalize": "rows"}, ValueError, "normalize should be 'truth', 'predicted' or None"),
        ({"adata": cells(truth=["a"], found=[None])}, ValueError, "no cell has a value in both"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        draw(**options)
