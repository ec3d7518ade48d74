import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
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
    axes = draw(adata, ["X_flat", "X_flat"], title=["one", "two"], ax=given)
    assert axes == list(given) and plt.get_fignums() == [figure.number]
    assert given[0].get_legend() is None and legend_names(given[1].get_legend()) == ["B", "NK", "T"]
    assert [ax.get_title() for ax in axes] == ["one", "two"]


def test_legend_shows_the_colours_of_the_points(adata):
    handles = draw(adata).figure.legends[0].legend_handles
    assert [to_hex(handle.get_color()) for handle in handles] == COLORS


def test_a_layout_of_scanpy_is_taken_for_the_embedding_it_was_computed_of(adata):
    pytest.importorskip("umap")
    sc.pp.neighbors(adata, n_neighbors=10, use_rep="X_good")
    sc.tl.umap(adata)
    of_good, of_random = (points(ax)[0] for ax in draw(adata, ["X_good", "X_random"]))
    stored = adata.obsm["X_umap"][np.lexsort(adata.obsm["X_umap"].T)]
    np.testing.assert_array_equal(of_good, stored)
    assert not np.allclose(of_random, stored)


def test_several_colours_have_rows_and_legends_of_their_own(adata):
    adata = AnnData(np.arange(60.0)[:, None], obs=adata.obs, obsm=adata.obsm, var=pd.DataFrame(index=["CD3D"]))
    axes = draw(adata, ["X_flat", "X_flat"], color=["cell_type", "CD3D", "depth"])
    assert len(axes) == 6
    assert [ax.get_title() for ax in axes[::2]] == ["X_flat\ncell_type", "X_flat\nCD3D", "X_flat\ndepth"]
    figure = axes[0].figure
    assert len(figure.legends) == 1
    assert [ax.get_ylabel() for ax in figure.axes if ax not in axes] == ["CD3D", "depth"]
    drawn = axes[2].collections[0].get_array()
    assert list(drawn) == sorted(drawn)  # high expression above low


@pytest.mark.parametrize("n_types", [3, 40, 101])
def test_a_legend_is_never_cut_nor_over_a_panel_and_its_names_are_sorted_as_numbers(n_types):
    names = [f"a type with a long name, {i}" for i in range(n_types)]
    obs = pd.DataFrame({"many": names}, index=[f"cell_{i}" for i in range(n_types)])
    cells = AnnData(obs=obs, obsm={"X_flat": np.random.default_rng(0).normal(size=(n_types, 2))})
    ax = draw(cells, color="many")
    figure = ax.figure
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert legend_names(legend) == names
    assert box.x0 > ax.get_window_extent().x1
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1


def test_groups_are_coloured_and_the_others_grey_and_below(adata):
    ax = draw(adata, groups="NK", palette={"B": "red", "NK": "orange", "T": "blue"})
    colors = ax.collections[0].get_facecolors()
    assert (colors[:40] == to_rgba("lightgray")).all() and (colors[40:] == to_rgba("orange")).all()
    assert legend_names(ax.figure.legends[0]) == ["NK", "other"]


@pytest.mark.parametrize(("place", "n_texts", "n_legends"), [("on data", 3, 0), ("lower left", 0, 1), (None, 0, 0)])
def test_the_legend_stands_where_it_is_wanted(adata, place, n_texts, n_legends):
    ax = draw(adata, legend_loc=place)
    assert len([text for text in ax.texts if text.get_text()]) == n_texts
    assert (ax.get_legend() is not None) == bool(n_legends) and not ax.figure.legends
    assert not n_legends or ax.get_legend().get_frame_on()  # names are read over the cells


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"keys": ["X_none"]}, KeyError, "'X_none' is not in adata.obsm, which has X_good"),
        ({"color": "none"}, KeyError, "'none' is not a column of adata.obs, which has cell_type"),
        ({"layout": "pca"}, ValueError, "'tsne', 'umap', but is 'pca'"),
        ({"color": "cell_type", "groups": ["B", "none"]}, ValueError, r"B, NK, T; \['none'\] are not"),
        ({"palette": ["red"]}, ValueError, "palette should have 3 colours"),
        ({"palette": {"B": "red"}}, ValueError, "no colour for 'NK'"),
        ({"title": ["a", "b"]}, ValueError, "one title per key"),
        ({"keys": []}, ValueError, "at least one key"),
        ({"ax": [None, None]}, ValueError, "1 Axes, one per panel, but is 2"),
        ({"keys": "X_nan"}, ValueError, r"X_nan.*1 cells: cell_5"),
        ({"keys": "X_one"}, ValueError, "at least two columns"),
        ({"keys": "X_good", "layout": "tsne", "perplexity": 60}, ValueError, "perplexity"),
    ],
)
def test_bad_input_is_named_before_a_figure_is_made(adata, arguments, error, message):
    adata.obsm["X_nan"] = np.where(np.arange(60)[:, None] == 5, np.nan, adata.obsm["X_good"])
    adata.obsm["X_one"] = np.ones((60, 1))
    with pytest.raises(error, match=message):
        draw(adata, **arguments)
    assert not plt.get_fignums()
