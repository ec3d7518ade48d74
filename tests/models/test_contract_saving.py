"""What every embedding model promises of saving and loading."""

import json
import pickle

import numpy as np
import pytest
import torch
from elsewhere import embed_with
from small_models import QUICK

from sc_ssl import models


def test_saved_folder_holds_no_pickle_and_no_data(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    text = (folder / "model.json").read_text()
    assert "gene_0" in text
    assert "cell_0" not in text


def test_loaded_model_embeds_the_same(model_class, folder, embedding, cells):
    model = model_class.load(folder, cells, accelerator="cpu")
    np.testing.assert_array_equal(model.get_latent_representation(), embedding)


def test_load_finds_the_class_itself(model_class, folder, embedding, cells):
    model = models.load(folder)
    assert type(model) is model_class
    np.testing.assert_array_equal(model.get_latent_representation(cells), embedding)


def test_loading_keeps_history_arguments_and_names(folder, trained):
    model = models.load(folder)
    assert model.var_names == trained.var_names
    assert set(model.history) == set(trained.history)
    for name, frame in trained.history.items():
        np.testing.assert_array_equal(model.history[name], frame)
    assert model.training.epochs(1000, 100) == trained.training.epochs(1000, 100)
    assert model.training.batch_size == trained.training.batch_size


def test_model_loaded_in_another_process_embeds_the_same(processes, folder, embedding, cells):
    with processes.Pool(1) as pool:
        found = pool.apply(embed_with, (folder, cells))
    np.testing.assert_allclose(found, embedding, atol=1e-6)


def test_loading_never_unpickles(folder, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    assert models.load(folder).is_trained_


def test_loaded_model_trains_on(folder, cells):
    model = models.load(folder)
    with pytest.raises(ValueError, match="loaded without cells; pass adata"):
        model.train(1, **QUICK)
    model = type(model).load(folder, cells)
    model.train(1, **QUICK)
    assert len(model.history["train_loss"]) == 3


def test_save_refuses_a_folder_that_exists_and_overwrites_when_told(trained, folder):
    with pytest.raises(FileExistsError, match="exists already"):
        trained.save(folder)
    trained.save(folder, overwrite=True)
    assert models.load(folder).is_trained_


def test_constructor_arguments_are_plain_data(model_class, trained, embedding, cells):
    params = json.loads(json.dumps(trained.plain_init_params()))
    again = model_class(None, registry=trained.registry_, **params)
    again.module.load_state_dict(trained.module.state_dict())
    again.module.eval()
    again.is_trained_ = True
    np.testing.assert_array_equal(again.get_latent_representation(cells), embedding)
