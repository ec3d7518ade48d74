"""A model on disk: what is written, what is refused, and with which message."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from sc_ssl import models
from sc_ssl.models import ContrastiveSC, MaskSC
from sc_ssl.models.base import read_config, read_tensors, write_model


@pytest.fixture
def folder(counts, tmp_path):
    """A saved model."""
    ContrastiveSC.setup_anndata(counts)
    model = ContrastiveSC(counts, n_hidden=[8], n_latent=4)
    model.train(1, enable_progress_bar=False, accelerator="cpu")
    model.save(tmp_path / "model")
    return tmp_path / "model"


def change(folder, **entries):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_config_and_tensors_come_back(tmp_path):
    config = {
        "names": np.array(["a", "ü"], dtype=object),
        "values": np.arange(3, dtype=np.int32),
        "frame": pd.DataFrame({"x": [1, 2], "y": ["p", "q"]}),
        "number": np.float64(0.5),
        "nothing": None,
    }
    tensors = {"w": torch.randn(2, 3), "n": torch.tensor(4)}
    write_model(tmp_path / "m", config, tensors, overwrite=False)
    found = read_config(tmp_path / "m")
    assert list(found["names"]) == ["a", "ü"]
    assert found["values"].dtype == np.int32
    pd.testing.assert_frame_equal(found["frame"], config["frame"])
    assert (found["number"], found["nothing"]) == (0.5, None)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in read_tensors(tmp_path / "m").items())


def test_shared_and_transposed_tensors_are_stored(tmp_path):
    shared = torch.randn(2, 3)
    write_model(tmp_path / "m", {}, {"a": shared, "b": shared, "c": shared.T}, overwrite=False)
    found = read_tensors(tmp_path / "m")
    assert torch.equal(found["a"], found["b"])
    assert torch.equal(found["c"], shared.T)


def test_parameters_that_are_no_plain_data_are_refused(tmp_path):
    with pytest.raises(TypeError, match="plain data, found function"):
        write_model(tmp_path / "m", {"view": lambda x: x}, {}, overwrite=False)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved model: model.json is missing"):
        models.load(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no complete model: model.safetensors is missing"):
        models.load(folder)


def test_another_class_is_refused_by_name(folder):
    with pytest.raises(ValueError, match=r"holds a ContrastiveSC, not a MaskSC; use ContrastiveSC.load"):
        MaskSC.load(folder)


def test_a_class_of_another_version_is_refused(folder):
    change(folder, **{"class": "Tomorrow"})
    with pytest.raises(
        ValueError, match="this version has no model class 'Tomorrow'; it has .*ContrastiveSC, .*MaskSC"
    ):
        models.load(folder)


def test_a_name_that_is_no_model_is_not_looked_up(folder):
    change(folder, **{"class": "load"})
    with pytest.raises(ValueError, match="has no model class"):
        models.load(folder)


def test_a_format_of_another_version_is_refused(folder):
    change(folder, format=99)
    with pytest.raises(ValueError, match="format 99, this version reads 1; update sc_ssl"):
        models.load(folder)


def test_an_untrained_model_stays_untrained(counts, tmp_path):
    ContrastiveSC.setup_anndata(counts)
    ContrastiveSC(counts, n_hidden=[8], n_latent=4).save(tmp_path / "model")
    model = ContrastiveSC.load(tmp_path / "model", counts)
    with pytest.raises(RuntimeError, match="train the model first"):
        model.get_latent_representation()


def test_changed_training_settings_are_kept(counts, tmp_path):
    ContrastiveSC.setup_anndata(counts)
    ContrastiveSC.paper(counts).save(tmp_path / "model")
    assert models.load(tmp_path / "model").training.plan == {"lr": 0.4, "schedule": "constant"}


def test_cells_attached_to_a_loaded_model_need_all_its_genes(folder, counts):
    with pytest.raises(ValueError, match="needs 100% of its 96 genes, found 90"):
        ContrastiveSC.load(folder, counts[:, :90].copy())
