import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from sc_ssl import pl

SCORES = pd.DataFrame(
    [[0.1, 0.2, np.nan], [0.3, 0.5, 0.4]],
    index=pd.Index([36, 64], name="edge"),
    columns=pd.Index([10, 50, 75], name="hidden (%)"),
)


def test_a_line_for_each_row_without_what_was_not_run():
    ax = pl.sweep(SCORES, measure="ARI", show=False)
    lines = {bars.get_label(): bars.lines[0].get_xydata().tolist() for bars in ax.containers}
    assert lines == {"36": [[10, 0.1], [50, 0.2]], "64": [[10, 0.3], [50, 0.5], [75, 0.4]]}
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_legend().get_title().get_text()) == ("hidden (%)", "ARI", "edge")


def test_lines_carry_their_spread():
    ax = pl.sweep(SCORES, sd=SCORES / 10, show=False)
    bars = ax.containers[1].lines[2][0].get_segments()
    np.testing.assert_allclose([segment[:, 1] for segment in bars], [[0.27, 0.33], [0.45, 0.55], [0.36, 0.44]])


def test_a_heat_map_says_each_score():
    ax = pl.sweep(SCORES, sd=SCORES / 10, kind="heatmap", show=False)
    assert {text.get_position(): text.get_text() for text in ax.texts} == {
        (col, row): f"{SCORES.iloc[row, col]:.2f}\n± {SCORES.iloc[row, col] / 10:.2f}"
        for row, col in np.ndindex(2, 3)
        if (row, col) != (0, 2)
    }
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("hidden (%)", "edge")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["36", "64"]


def test_a_full_heat_map_has_all_cells():
    assert len(pl.sweep(SCORES.iloc[1:], kind="heatmap", show=False).texts) == 3


@pytest.mark.parametrize("kind", ["lines", "heatmap"])
def test_given_axes_are_drawn_into_and_the_figure_is_returned(kind):
    figure, ax = plt.subplots()
    assert pl.sweep(SCORES, kind=kind, ax=ax, show=False) is ax
    assert plt.get_fignums() == [figure.number]
    assert isinstance(pl.sweep(SCORES, kind=kind, return_fig=True), Figure)


@pytest.mark.parametrize(
    ("scores", "options", "said"),
    [
        (SCORES * np.nan, {}, "at least one score"),
        (SCORES, {"kind": "bars"}, "'lines' or 'heatmap', but is 'bars'"),
        (SCORES, {"sd": SCORES.iloc[:1]}, "sd should have the rows and columns of scores"),
        (SCORES.rename(columns=str), {}, r"numbers for lines, but \['10', '50', '75'\] are not"),
    ],
)
def test_bad_sweeps(scores, options, said):
    with pytest.raises(ValueError, match=said):
        pl.sweep(scores, **options, show=False)
    assert not plt.get_fignums()
