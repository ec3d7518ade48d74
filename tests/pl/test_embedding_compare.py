import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex, to_rgba

from sc_ssl import pl

COLORS = ["#ff0000", "#00ff00", "#0000ff"]


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    code = np.arange(60) % 3
    embedding = 8 * np.eye(3, 5)[code] + rng.normal(size=(60, 5))
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(np.array(["B", "NK", "T"])[code]), "depth": rng.uniform(size=60)},
        index=[f"cell_{i}" for i in range(60)],
    )
    obsm = {"X_good": embedding, "X_random": rng.normal(size=(60, 4)), "X_flat": rng.normal(size=(60, 2))}
    return AnnData(obs=obs, obsm=obsm, uns={"cell_type_colors": COLORS})


def draw(adata, keys="X_flat", **kwargs):
    """A plot of little work: two columns are drawn as they are."""
    return pl.embedding_compare(adata, keys, **{"color": "cell_type", "show": False} | kwargs)


def points(ax):
    """Coordinates and colours of the cells, in an order that does not depend on the drawing order."""
    xy, colors = ax.collections[0].get_offsets().data, ax.collections[0].get_facecolors()
    order = np.lexsort(xy.T)
    return xy[order], colors[order]


def legend_names(legend):
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("layout", ["tsne", "umap"])
def test_one_panel_per_key_with_one_legend_and_data_untouched(adata, layout):
    if layout == "umap":
        pytest.importorskip("umap")
    before = adata.copy()
    axes = draw(adata, ["X_good", "X_random"], layout=layout, perplexity=10)
    assert [ax.get_title() for ax in axes] == ["X_good", "X_random"]
    assert [len(ax.collections[0].get_offsets()) for ax in axes] == [60, 60]
    assert len(axes[0].figure.legends) == 1 and all(ax.get_legend() is None for ax in axes)
    assert legend_names(axes[0].figure.legends[0]) == ["B", "NK", "T"]
    assert list(adata.obsm) == list(before.obsm) and list(adata.uns) == list(before.uns) and not adata.obsp
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    np.testing.assert_array_equal(adata.obsm["X_good"], before.obsm["X_good"])


@pytest.mark.parametrize("layout", ["tsne", "umap"])
def test_layout_is_repeatable_and_keeps_types_apart(adata, layout):
    (xy, colors), (again, _) = (
        points(draw(adata, "X_good", layout=layout, perplexity=10, random_state=1)) for _ in range(2)
    )
    np.testing.assert_array_equal(xy, again)
    kind = np.unique(colors, axis=0, return_inverse=True)[1]
    centers = np.stack([xy[kind == k].mean(axis=0) for k in range(3)])
    nearest = np.linalg.norm(xy[:, None] - centers, axis=2).argmin(axis=1)
    assert (nearest == kind).mean() > 0.95


def test_two_columns_are_drawn_as_they_are_in_the_stored_colours(adata):
    xy, colors = points(draw(adata))
    order = np.lexsort(adata.obsm["X_flat"].T)
    np.testing.assert_array_equal(xy, adata.obsm["X_flat"][order])
    expected = [to_rgba(COLORS[code]) for code in adata.obs["cell_type"].cat.codes.iloc[order]]
    np.testing.assert_allclose(colors, expected)


def test_without_stored_colours_each_type_has_its_own_and_none_is_stored(adata):
    del adata.uns["cell_type_colors"]
    _, colors = points(draw(adata))
    assert len(np.unique(colors, axis=0)) == 3
    assert not adata.uns


def test_many_types_have_different_colours():
    obs = pd.DataFrame({"many": [f"t{i}" for i in range(120)]}, index=[f"cell_{i}" for i in range(120)])
    adata = AnnData(obs=obs, obsm={"X_flat": np.random.default_rng(0).normal(size=(120, 2))})
    _, colors = points(draw(adata, color="many"))
    assert len(np.unique(colors, axis=0)) > 100


def test_missing_types_are_grey_and_named(adata):
    adata.obs.loc["cell_0", "cell_type"] = np.nan
    ax = draw(adata)
    assert legend_names(ax.figure.legends[0]) == ["B", "NK", "T", "missing"]
    assert (points(ax)[1] == to_rgba("lightgray")).all(axis=1).sum() == 1


def test_numbers_have_a_colour_bar_instead_of_a_legend(adata):
    ax = draw(adata, color="depth")
    assert not ax.figure.legends
    assert [other.get_ylabel() for other in ax.figure.axes if other is not ax] == ["depth"]


def test_given_axes_are_used_and_carry_the_legend(adata):
    figure, given = plt.subplots(1, 2)
    axes = draw(adata, ["X_flat", "X_flat"], titles=["one", "two"], ax=given)
    assert axes == list(given) and plt.get_fignums() == [figure.number]
    assert given[0].get_legend() is None and legend_names(given[1].get_legend()) == ["B", "NK", "T"]
    assert [ax.get_title() for ax in axes] == ["one", "two"]


def test_legend_shows_the_colours_of_the_points(adata):
    handles = draw(adata).figure.legends[0].legend_handles
    assert [to_hex(handle.get_color()) for handle in handles] == COLORS


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"keys": ["X_none"]}, KeyError, "'X_none' is not in adata.obsm, which has X_good"),
        ({"color": "none"}, KeyError, "'none' is not a column of adata.obs, which has cell_type"),
        ({"layout": "pca"}, ValueError, "'tsne', 'umap', but is 'pca'"),
        ({"titles": ["a", "b"]}, ValueError, "one title per key"),
        ({"keys": []}, ValueError, "at least one key"),
        ({"ax": [None, None]}, ValueError, "1 Axes, one per panel, but is 2"),
        ({"keys": "X_nan"}, ValueError, r"X_nan.*1 cells: cell_5"),
        ({"keys": "X_one"}, ValueError, "at least two columns"),
        ({"keys": "X_good", "perplexity": 60}, ValueError, "perplexity"),
    ],
)
def test_bad_input_is_named_before_a_figure_is_made(adata, arguments, error, message):
    adata.obsm["X_nan"] = np.where(np.arange(60)[:, None] == 5, np.nan, adata.obsm["X_good"])
    adata.obsm["X_one"] = np.ones((60, 1))
    with pytest.raises(error, match=message):
        draw(adata, **arguments)
    assert not plt.get_fignums()
