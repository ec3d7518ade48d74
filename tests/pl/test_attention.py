import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from sc_ssl import pl


@pytest.fixture
def cells():
    """Attention (4 cells, 2 x 3 patches) and expression (4 cells, 4 x 6 genes): patches of 2 x 2 genes."""
    rng = np.random.default_rng(0)
    return rng.uniform(size=(4, 6)), rng.normal(size=(4, 4, 6))


def test_each_patch_covers_its_genes_scaled_per_cell(cells):
    attention, expression = cells
    axes = pl.attention(attention, expression, show=False)
    for cell, ax in enumerate(axes):
        image, overlay = (drawn.get_array() for drawn in ax.images)
        np.testing.assert_array_equal(image, expression[cell])
        low, high = attention[cell].min(), attention[cell].max()
        for row in range(4):
            for col in range(6):
                expected = (attention[cell, 3 * (row // 2) + col // 2] - low) / (high - low)
                assert overlay[row, col] == pytest.approx(expected)


def test_attention_of_any_scale_looks_the_same(cells):
    attention, expression = cells
    overlays = [
        np.stack([ax.images[1].get_array() for ax in pl.attention(a, expression, show=False)])
        for a in (attention, 1e-6 * attention + 3)
    ]
    np.testing.assert_allclose(*overlays, atol=1e-6)


def test_unattended_patches_are_clear_and_genes_stay_visible_below_the_others(cells):
    overlay = pl.attention(*cells, show=False)[0].images[1]
    alpha = overlay.cmap([0.0, 0.5, 1.0])[:, 3]
    assert alpha[0] == 0 and 0 < alpha[1] < alpha[2] < 1


def test_even_attention_is_clear(cells):
    axes = pl.attention(np.ones((4, 6)), cells[1], show=False)
    assert all((ax.images[1].get_array() == 0).all() for ax in axes)


def test_titles_are_labels_or_row_names(cells):
    attention, expression = cells
    frame = pd.DataFrame(attention, index=list("abcd"))
    assert [ax.get_title() for ax in pl.attention(frame, expression, show=False)] == list("abcd")
    labels = pd.Series(pd.Categorical(["B", "T", "B", "T"]), index=list("abcd"))
    assert [ax.get_title() for ax in pl.attention(frame, expression, labels=labels, show=False)] == list("BTBT")
    assert [ax.get_title() for ax in pl.attention(attention, expression, show=False)] == [""] * 4


def test_patches_need_not_be_square(cells):
    attention, expression = cells
    ax = pl.attention(attention[:1], expression[:1], patch_shape=(4, 1), show=False)
    overlay = ax.images[1].get_array()
    assert (overlay == overlay[0]).all() and len(np.unique(overlay[0])) == 6


def test_grid_has_the_columns_asked_for(cells):
    axes = pl.attention(*cells, n_cols=3, show=False)
    spec = axes[-1].get_subplotspec()
    assert spec.get_gridspec().get_geometry() == (2, 3) and spec.rowspan.start == 1
    assert len(axes[0].figure.axes) == 4 + 1  # the spare places are empty; one colour bar


def test_return_fig_is_the_figure(cells):
    assert isinstance(pl.attention(*cells, return_fig=True), Figure)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": np.ones((4, 7))}, "7 patches .* image of 4 x 6 genes"),
        ({"patch_shape": (3, 2)}, r"6 patches of 3 x 2 genes .* Give patch_shape"),
        ({"patch_shape": (0, 2)}, "patches of 0 x 2 genes"),
        ({"attention": np.ones((3, 6))}, "but have 3, 4 and 3"),
        ({"labels": ["a"]}, "but have 4, 4 and 1"),
        ({"expression": np.ones((4, 24))}, r"\(n_cells, n_rows, n_cols\)"),
        ({"attention": np.full((4, 6), np.nan)}, "attention should be finite"),
    ],
)
def test_bad_input_is_named_before_a_figure_is_made(cells, change, message):
    with pytest.raises(ValueError, match=message):
        pl.attention(**dict(zip(("attention", "expression"), cells, strict=True)) | change, show=False)
    assert not plt.get_fignums()


def test_a_last_row_of_patches_need_not_be_full(cells):
    attention, expression = cells
    axes = pl.attention(attention[:, :5], expression, patch_shape=(2, 2), show=False)
    overlay = axes[0].images[1].get_array()
    assert (overlay[2:, 4:] == 0).all() and overlay.shape == (4, 6)


def test_the_genes_that_the_most_attended_patch_expresses_most_are_named(cells):
    attention, expression = cells
    genes = pd.DataFrame([[f"gene_{t}_{p}" for p in range(4)] for t in range(6)])
    axes = pl.attention(attention, expression, genes=genes, show=False)
    for cell, ax in enumerate(axes):
        t = attention[cell].argmax()
        values = expression[cell][2 * (t // 3) : 2 * (t // 3) + 2, 2 * (t % 3) : 2 * (t % 3) + 2].ravel()
        assert ax.get_xlabel().split("\n") == [f"gene_{t}_{p}" for p in values.argsort()[::-1][:3]]
    with pytest.raises(ValueError, match="get_patch_genes"):
        pl.attention(attention, expression, genes=genes.head(5))
