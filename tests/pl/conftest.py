import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def matplotlib_is_left_alone():
    """No plot may change matplotlib's settings or draw from numpy's global generator."""
    settings, state = dict(mpl.rcParams), np.random.get_state()[1].copy()
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == settings
    np.testing.assert_array_equal(np.random.get_state()[1], state)
