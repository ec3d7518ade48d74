import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.figure import Figure

from sc_ssl import pl

CURVE = {
    "n_clusters": np.arange(2, 7),
    "criterion": np.array([0.2, 0.4, 0.3, np.nan, 0.1]),
    "stability": np.array([1, 0.9, 0.7, np.nan, 0.5]),
    "stability_sd": np.array([0, 0.1, 0.1, np.nan, 0.2]),
}


def clustered(**params):
    done = {"curve": CURVE, "n_clusters": 3, "params": {"criterion": "silhouette", **params}}
    return AnnData(np.zeros((2, 1)), uns={"masksc_cluster": done, "masksc": {"params": {}}})


def test_criterion_and_stability_stand_over_the_number_and_the_chosen_is_marked():
    ax = pl.cluster_choice(clustered(), show=False)
    right = next(other for other in ax.figure.axes if other is not ax)
    curve, mark = ax.lines
    assert curve.get_xdata().tolist() == CURVE["n_clusters"].tolist()
    np.testing.assert_array_equal(curve.get_ydata(), CURVE["criterion"])
    np.testing.assert_array_equal(right.lines[0].get_ydata(), CURVE["stability"])
    assert set(mark.get_xdata()) == {3}
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("silhouette", "number of clusters")


@pytest.mark.parametrize(("params", "said"), [({}, "chosen"), ({"n_clusters": 3}, "given")])
def test_the_title_says_whether_the_number_was_chosen(params, said):
    assert pl.cluster_choice(clustered(**params), show=False).get_title() == f"3 clusters ({said})"


def test_of_one_number_that_was_given_the_sizes_of_its_clusters_are_drawn():
    curve = {name: value[:1] for name, value in CURVE.items()}
    cells = AnnData(obs=pd.DataFrame({"masksc_cluster": [str(i % 12) for i in range(30)]}, index=map(str, range(30))))
    done = {"curve": curve, "n_clusters": 12, "params": {"criterion": "silhouette", "n_clusters": 12}}
    cells.uns["masksc_cluster"] = done
    ax = pl.cluster_choice(cells, show=False)
    assert [bar.get_height() for bar in ax.patches] == [3] * 6 + [2] * 6
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(i) for i in range(12)]  # 2 before 10
    assert ax.get_title(loc="left") == "12 clusters (given)\nsilhouette 0.20\nstability 1.00 ± 0.00"


def test_given_axes_are_drawn_into():
    figure, ax = plt.subplots()
    assert pl.cluster_choice(clustered(), ax=ax, show=False) is ax
    assert plt.get_fignums() == [figure.number]


def test_return_fig_is_the_figure():
    assert isinstance(pl.cluster_choice(clustered(), return_fig=True), Figure)


@pytest.mark.parametrize(
    ("cells", "key", "has"),
    [(clustered(), "pca_cluster", "'masksc_cluster'"), (clustered(), "masksc", "'masksc_cluster'")]
    + [(AnnData(np.zeros((2, 1))), "pca_cluster", "run sc_ssl.tl.cluster first")],
)
def test_a_result_that_is_not_there_names_those_that_are(cells, key, has):
    with pytest.raises(KeyError, match=f"named '{key}'; it has .*{has}"):
        pl.cluster_choice(cells, key, show=False)
    assert not plt.get_fignums()
