"""The method that `docs/contributing.md` shows is complete: it runs as it stands there."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import sc_ssl
from sc_ssl import models

PAGE = Path(__file__).parents[1] / "docs" / "contributing.md"
QUICK = {"max_epochs": 2, "accelerator": "cpu", "train_kwargs": {"enable_progress_bar": False, "batch_size": 40}}


@pytest.fixture
def denoising(monkeypatch):
    """The class of the page, a method by its name as long as the test runs."""
    [code] = [
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "SSLModule" in block
    ]
    assert len(code.splitlines()) <= 50
    module = types.ModuleType("denoising")
    monkeypatch.setitem(sys.modules, "denoising", module)
    exec(compile(code, str(PAGE), "exec"), vars(module))
    monkeypatch.setitem(models.METHODS, "denoising", module.Denoising)
    return module.Denoising


def test_the_method_of_the_page_embeds_is_saved_and_loaded(denoising, counts, tmp_path):
    sc_ssl.tl.embed(counts, "denoising", save_model=tmp_path / "model", n_latent=8, **QUICK)
    z_nd = counts.obsm["X_denoising"]
    assert z_nd.shape == (counts.n_obs, 8)
    assert np.isfinite(z_nd).all()
    assert z_nd.std(axis=0).min() > 0
    again = sc_ssl.tl.embed(counts, tmp_path / "model", copy=True)
    np.testing.assert_array_equal(again.obsm["X_denoising"], z_nd)
    assert isinstance(models.load(tmp_path / "model"), denoising)


def test_its_loss_falls(denoising, counts):
    denoising.setup_anndata(counts)
    model = denoising(counts, n_latent=8)
    model.train(40, batch_size=40, accelerator="cpu", enable_progress_bar=False)
    curve = model.history["mse_train"]["mse_train"]
    assert curve.iloc[-5:].mean() < 0.95 * curve.iloc[:5].mean()
