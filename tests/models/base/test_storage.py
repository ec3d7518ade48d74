"""A model on disk: what is written, what is refused, and with which message."""

import json
import os
import shutil

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


#: what every description has
PLAIN = {"class": "A", "registry": {}, "init_params": {}, "training": {}, "is_trained": True, "history": {}}


def change(folder, **entries):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_config_and_tensors_come_back(tmp_path):
    config = PLAIN | {
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
    with pytest.raises(ValueError, match="format 99, this version reads 1; it was saved by sc_ssl .*: update sc_ssl"):
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


# a process that is killed while it writes


class Killed(BaseException):
    """In place of ``kill -9``: nothing is caught and nothing cleaned up."""


@pytest.mark.parametrize("moment", range(1, 9))
def test_overwriting_leaves_the_old_model_or_the_new_one(folder, monkeypatch, moment):
    old = models.load(folder).module.state_dict()
    model = models.load(folder)
    new = {name: tensor + 1 for name, tensor in old.items()}
    model.module.load_state_dict(new)
    calls = [0]

    def killed(function):
        def call(*arguments, **options):
            calls[0] += 1
            if calls[0] == moment:
                raise Killed
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "open", "fsync"):
            patch.setattr(f"os.{name}", killed(getattr(os, name)))
        try:
            model.save(folder, overwrite=True)
        except Killed:
            pass
    found = models.load(folder).module.state_dict()
    assert any(all(torch.equal(found[name], tensors[name]) for name in old) for tensors in (old, new))
    model.save(folder, overwrite=True)  # goes well whatever was left
    assert all(torch.equal(models.load(folder).module.state_dict()[name], new[name]) for name in old)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_tensors_of_another_model_are_refused(folder, tmp_path):
    model = models.load(folder)
    model.module.load_state_dict({name: tensor + 1 for name, tensor in model.module.state_dict().items()})
    model.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(ValueError, match="model.safetensors is damaged.*id is not that of model.json"):
        models.load(folder)


def test_no_link_is_followed(folder, tmp_path):
    (tmp_path / "theirs").write_text("precious")
    for name in ("model.json.tmp", "model.safetensors.tmp"):
        (folder / name).symlink_to(tmp_path / "theirs")
    models.load(folder).save(folder, overwrite=True)
    assert (tmp_path / "theirs").read_text() == "precious"


def test_files_have_the_rights_that_the_user_gives_files(folder, tmp_path):
    before = os.umask(0o027)
    try:
        models.load(folder).save(tmp_path / "shared")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "shared").iterdir()} == {0o640}


# a description that is none

DAMAGED = {
    "a list": "[]",
    "a number": "3",
    "deep": "[" * 100_000,
    "no class": json.dumps({"format": 1} | {k: v for k, v in PLAIN.items() if k != "class"}),
    "arguments are a list": json.dumps({"format": 1} | PLAIN | {"init_params": []}),
    "a size beyond all": json.dumps({"format": 1} | PLAIN | {"init_params": {"n_hidden": [10**12]}}),
    "an array of a type that is none": json.dumps({"format": 1, "x": {"__array__": [1], "dtype": "nonsense"}} | PLAIN),
    "an array of code": json.dumps({"format": 1, "x": {"__array__": ["os.system('x')"], "dtype": "O8, int32"}} | PLAIN),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=list(DAMAGED))
def test_a_description_that_is_none_is_one_error_with_the_name_of_the_file(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(ValueError, match=r"model.json is damaged, or not of this version: .*save the model again"):
        models.load(folder)


@pytest.mark.parametrize(
    "entries",
    [
        {"init_params": {"newer_option": 3}},
        {"init_params": {"n_hidden": "wide"}},
        {"init_params": {"n_hidden": [9], "n_latent": 4}},
        {"registry": {}},
        {"training": {"max_epochs": 3}},
        {"history": {"train_loss": "low"}},
    ],
    ids=str,
)
def test_what_does_not_fit_the_model_is_one_error_with_the_name_of_the_folder(folder, entries):
    change(folder, version="0.9.0", **entries)
    with pytest.raises(
        ValueError, match=r"model is damaged, or not of this version: .*saved by version 0.9.0; this is"
    ):
        models.load(folder)
