import pandas as pd
import pytest
from anndata import AnnData

from sc_ssl import pl

ROWS = [
    *(("masksc", seed, "ari", score) for seed, score in enumerate([0.7, 0.8])),
    *(("masksc", seed, "seconds", score) for seed, score in enumerate([20.0, 22.0])),
    ("X_pca", 0, "ari", 0.6),
    ("nmf", 0, "ari", 0.9),
    ("nmf", 0, "seconds", 2.0),
]
TABLE = pd.DataFrame(ROWS, columns=["method", "seed", "measure", "score"])


def test_methods_are_ordered_by_the_first_measure_and_bars_are_means():
    ari, seconds = pl.compare(TABLE, show=False)
    assert [label.get_text() for label in ari.get_yticklabels()] == ["nmf", "masksc", "X_pca"]
    assert [bar.get_width() for bar in ari.patches] == pytest.approx([0.9, 0.75, 0.6])
    assert [ax.get_title(loc="left") for ax in (ari, seconds)] == ["ARI", "seconds"]
    assert len(ari.collections) == 1 and len(ari.collections[0].get_offsets()) == 2  # the seeds of masksc


def test_the_best_is_dark_and_bold_and_of_time_it_is_the_least():
    for ax, best in zip(pl.compare(TABLE, show=False), ["0.90", "2"], strict=True):
        assert [text.get_text() for text in ax.texts if text.get_weight() == "bold"] == [best]
        assert ax.patches[0].get_facecolor() != ax.patches[1].get_facecolor()


def test_the_table_is_read_from_the_cells_and_measures_are_chosen():
    cells = AnnData(uns={"compare": {"table": TABLE}})
    ax = pl.compare(cells, measures="seconds", show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["nmf", "masksc", "X_pca"]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (AnnData(), {}, "run sc_ssl.tl.compare first"),
        (TABLE, {"measures": ["nmi"]}, "'nmi' is not in the table, which has ari, seconds"),
        (TABLE.drop(columns="score"), {}, "no column 'score'"),
    ],
)
def test_what_is_not_there_is_named(table, options, message):
    with pytest.raises(KeyError, match=message):
        pl.compare(table, **options)
