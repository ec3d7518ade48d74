import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from sc_ssl import pl

COLUMNS = pd.MultiIndex.from_product([["blood", "worm"], ["ARI", "NMI"]])
SCORES = pd.DataFrame([[0.1, 0.5, 0.9, np.nan], [0.3, 0.4, 0.8, 0.7]], index=["ours", "other"], columns=COLUMNS)


def texts(ax):
    """What stands in each cell, top to bottom."""
    found = {}
    for text in sorted(ax.texts, key=lambda text: text.get_position()[1]):
        if text.get_text() and not hasattr(text, "xyann"):
            x, y = text.get_position()
            found.setdefault((round(y), round(x)), []).append(text.get_text())
    return found


def test_every_score_stands_in_its_cell_and_the_best_of_a_column_is_bold():
    ax = pl.score_table(SCORES, show=False)
    assert texts(ax) == {
        (row, col): [f"{SCORES.iloc[row, col]:.2f}"] for row, col in np.ndindex(2, 4) if (row, col) != (0, 3)
    }
    bold = {text.get_text() for text in ax.texts if text.get_weight() == "bold"}
    assert bold == {"0.30", "0.50", "0.90", "0.70", "blood", "worm"}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ours", "other"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["ARI", "NMI"] * 2


def test_each_column_has_its_own_scale():
    shade = pl.score_table(SCORES, show=False).images[0].get_array()
    np.testing.assert_array_equal(shade.filled(-1), [[0, 1, 1, -1], [1, 0, 0, 1]])


def test_spread_and_published_numbers_stand_beside_and_take_no_part_in_the_colours():
    published = pd.DataFrame({("worm", "ARI"): [0.99]}, index=["ours"])
    ax = pl.score_table(SCORES, sd=SCORES / 10, published=published, digits=3, show=False)
    assert texts(ax)[0, 2] == ["0.900 ± 0.090", "0.990"]
    assert texts(ax)[1, 2] == ["0.800 ± 0.080"]
    assert ax.images[0].get_array()[0, 2] == 1


def test_columns_may_be_measures_alone():
    ax = pl.score_table(SCORES["blood"], show=False)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["ARI", "NMI"]


def test_long_names_of_columns_do_not_run_into_each_other():
    scores = SCORES["blood"].set_axis(["a_long_name_of_a_data_set", "another_name_of_one"], axis=1)
    figure = pl.score_table(scores, return_fig=True)
    figure.canvas.draw()
    first, second = figure.axes[0].get_xticklabels()
    assert first.get_rotation() == second.get_rotation() == 25
    # beside each other where the second begins: below it, the first has risen above a line
    height = first.get_window_extent().height * (second.get_window_extent().x0 - first.get_window_extent().x0)
    assert height / first.get_window_extent().width > first.get_fontsize() * figure.dpi / 72
    short = pl.score_table(SCORES["blood"], show=False)
    assert {label.get_rotation() for label in short.get_xticklabels()} == {0}


def test_a_column_without_any_number_is_left_out_and_one_with_a_published_number_is_not():
    scores = SCORES.reindex(columns=pd.MultiIndex.from_tuples([*SCORES.columns, ("fish", "ARI")]))
    labels = [label.get_text() for label in pl.score_table(scores, show=False).get_xticklabels()]
    assert labels == ["ARI", "NMI"] * 2
    published = pd.DataFrame({("fish", "ARI"): [0.5]}, index=["ours"])
    assert texts(pl.score_table(scores, published=published, show=False))[0, 4] == ["0.50"]


def test_long_names_of_data_sets_do_not_overlap():
    names = ["a_long_name_of_a_data_set", "another name of one that is long", "short"]
    scores = pd.DataFrame([[0.1, 0.2, 0.3]], index=["ours"], columns=pd.MultiIndex.from_product([names, ["ARI"]]))
    figure = pl.score_table(scores, return_fig=True)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if hasattr(text, "xyann")]
    assert len(boxes) == 3
    assert all(first.x1 < second.x0 for first, second in zip(boxes, boxes[1:], strict=False))


def test_given_axes_are_drawn_into_and_the_figure_is_returned():
    figure, ax = plt.subplots()
    assert pl.score_table(SCORES, ax=ax, show=False) is ax
    assert plt.get_fignums() == [figure.number]
    assert isinstance(pl.score_table(SCORES, return_fig=True), Figure)


@pytest.mark.parametrize(
    ("scores", "others", "said"),
    [
        (SCORES.iloc[:0], {}, "at least one method"),
        (SCORES.iloc[[0, 0]], {}, r"rows of scores should differ, but \['ours'\] repeat"),
        (SCORES, {"published": SCORES.rename(index={"ours": "ors"})}, r"rows of published .*\['ors'\] are not"),
        (SCORES, {"sd": SCORES.rename(columns={"worm": "warm"})}, "columns of sd .*warm.* are not"),
    ],
)
def test_bad_tables(scores, others, said):
    with pytest.raises(ValueError, match=said):
        pl.score_table(scores, **others, show=False)
    assert not plt.get_fignums()
