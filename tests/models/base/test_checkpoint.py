"""A training that was interrupted is finished by the same call, and ends where it would have without."""

import os
import signal
import time
from contextlib import suppress
from itertools import count

import numpy as np
import pytest
import torch
from conftest import make_counts
from elsewhere import embed_counts, embed_until_killed, embed_with
from lightning.pytorch import Callback
from small_models import QUICK, SMALL

from sc_ssl import models
from sc_ssl.models.base.checkpoint import SafeCheckpointIO

OFTEN = {"checkpoint_seconds": 0}
TEACHER = {"target": "global", "teacher": {"n_hidden": [16], "n_latent": 8}}
BUILDS = {
    "celllm": (models.CellLM, {}),
    "contrastive_sc": (models.ContrastiveSC, {}),
    "masksc": (models.MaskSC, {}),
    "teacher": (models.MaskSC, TEACHER),
    "scpretrain": (models.ScPretrain, {"recluster_every": 2}),
    "scdeepcluster": (models.ScDeepCluster, {}),
}


class InterruptAtStep(Callback):
    """Ctrl-C after this many steps, once."""

    def __init__(self, step):
        self.left = step

    def on_train_batch_end(self, *_):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class InterruptAtStart(Callback):
    """Ctrl-C where the last phase begins: the callbacks of a user are for that one."""

    def on_train_start(self, *_):
        raise KeyboardInterrupt


class InterruptAtEnd(Callback):
    """Ctrl-C after the last checkpoint, before the training is finished."""

    def on_train_end(self, *_):
        raise KeyboardInterrupt


@pytest.fixture(params=list(BUILDS))
def build(request):
    model_class, options = BUILDS[request.param]

    def build(counts, seed=0):
        torch.manual_seed(seed)
        model_class.setup_anndata(counts)
        return model_class(counts, **SMALL[model_class.__name__] | options)

    return build


def build_contrastive(counts):
    torch.manual_seed(0)
    models.ContrastiveSC.setup_anndata(counts)
    return models.ContrastiveSC(counts, **SMALL["ContrastiveSC"])


def interrupt(model, folder, *, step=8, **options):
    with pytest.raises(KeyboardInterrupt):
        model.train(5, callbacks=[InterruptAtStep(step)], checkpoint_dir=folder, **QUICK | OFTEN | options)
    return model


def assert_same_training(found, expected):
    for name, tensor in expected.module.state_dict().items():
        assert torch.equal(found.module.state_dict()[name], tensor), name
    assert found.history.keys() == expected.history.keys()
    for name, frame in expected.history.items():
        np.testing.assert_array_equal(found.history[name], frame, err_msg=name)
    np.testing.assert_array_equal(found.get_latent_representation(), expected.get_latent_representation())


def test_the_same_call_finishes_it_bit_for_bit_in_any_process(build, build_counts, tmp_path):
    expected = build(build_counts())
    expected.train(5, **QUICK)
    interrupted = interrupt(interrupt(build(build_counts()), tmp_path, step=5), tmp_path, step=4)
    anew = build(build_counts(), seed=1)  # as in another process, whose random state is another
    torch.rand(3)
    for model in (interrupted, anew):
        model.train(5, checkpoint_dir=tmp_path, **QUICK)
        assert_same_training(model, expected)


def test_a_checkpoint_later_than_an_epoch_starts_from_the_epoch_before(build_counts, tmp_path):
    expected = build_contrastive(build_counts())
    expected.train(5, **QUICK)
    interrupt(build_contrastive(build_counts()), tmp_path, checkpoint_seconds=1000)
    assert not list(tmp_path.glob("**/*.ckpt"))
    model = build_contrastive(build_counts())
    model.train(5, checkpoint_dir=tmp_path, **QUICK)
    assert_same_training(model, expected)


def test_saving_into_the_same_folder_ends_it(build_counts, tmp_path):
    counts, folder = build_counts(), tmp_path / "model"
    model = interrupt(build_contrastive(counts), folder)
    with pytest.raises(FileNotFoundError, match="interrupted and no finished model; repeat the call"):
        models.load(folder)
    model.train(5, checkpoint_dir=folder, **QUICK)
    model.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    np.testing.assert_array_equal(
        models.load(folder).get_latent_representation(counts), model.get_latent_representation()
    )
    with pytest.raises(FileExistsError, match="holds a finished model"):
        model.train(1, checkpoint_dir=folder, **QUICK)


def test_a_finished_training_is_restored_once_and_then_trained_on(build_counts, tmp_path):
    model = build_contrastive(build_counts())
    model.train(5, checkpoint_dir=tmp_path, **QUICK)
    anew = build_contrastive(build_counts())
    anew.train(5, checkpoint_dir=tmp_path, **QUICK)
    assert_same_training(anew, model)
    anew.train(5, checkpoint_dir=tmp_path, **QUICK)
    assert len(anew.history["train_loss"]) == 10


def test_random_numbers_go_on_as_after_the_training_where_no_epoch_was_left(build_counts, tmp_path):
    expected = build_contrastive(build_counts())
    expected.train(5, **QUICK)
    after = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        build_contrastive(build_counts()).train(
            5, callbacks=[InterruptAtEnd()], checkpoint_dir=tmp_path, **QUICK | OFTEN
        )
    model = build_contrastive(build_counts())
    model.train(5, checkpoint_dir=tmp_path, **QUICK)
    assert_same_training(model, expected)
    assert torch.equal(torch.get_rng_state(), after)


def test_validation_cells_and_patience_are_those_of_before(build_counts, tmp_path):
    # a rate at which nothing is learnt: patience runs out
    options = {"early_stopping": True, "early_stopping_patience": 3, "plan_kwargs": {"lr": 1e-12}}
    expected = build_contrastive(build_counts())
    expected.train(50, **QUICK | options)
    with pytest.raises(KeyboardInterrupt):
        build_contrastive(build_counts()).train(
            50, callbacks=[InterruptAtStep(6)], checkpoint_dir=tmp_path, **QUICK | OFTEN | options
        )
    model = build_contrastive(build_counts())
    model.train(50, checkpoint_dir=tmp_path, **QUICK | OFTEN | options)
    assert 3 < len(expected.history["validation_loss"]) < 50
    assert_same_training(model, expected)


def test_a_phase_that_has_ended_is_not_trained_again(build_counts, tmp_path):
    def build():
        counts = build_counts()
        torch.manual_seed(0)
        models.ScDeepCluster.setup_anndata(counts)
        return models.ScDeepCluster(counts, **SMALL["ScDeepCluster"])

    expected = build()
    expected.train(5, **QUICK)
    with pytest.raises(KeyboardInterrupt):
        build().train(5, callbacks=[InterruptAtStart()], checkpoint_dir=tmp_path, **QUICK)
    ended = next(tmp_path.glob("**/pretrain.ckpt"))
    written = ended.stat().st_mtime_ns
    model = build()
    model.train(5, checkpoint_dir=tmp_path, **QUICK)
    assert ended.stat().st_mtime_ns == written
    assert_same_training(model, expected)


def test_checkpoints_of_another_training_are_refused(build_counts, tmp_path):
    model = interrupt(build_contrastive(build_counts()), tmp_path)
    with pytest.raises(ValueError, match=r"differs in batch_size \(40 there, 30 here\); repeat the call"):
        model.train(5, checkpoint_dir=tmp_path, **QUICK | {"batch_size": 30})
    with pytest.raises(ValueError, match=r"differs in n_cells \(120 there, 100 here\)"):
        build_contrastive(build_counts(100)).train(5, checkpoint_dir=tmp_path, **QUICK)


class Malicious:
    def __reduce__(self):
        return os.mkdir, (os.environ["MADE_BY_A_CHECKPOINT"],)


def test_loading_a_checkpoint_runs_no_code_from_it(build_counts, tmp_path, monkeypatch):
    monkeypatch.setenv("MADE_BY_A_CHECKPOINT", str(tmp_path / "made"))
    path = tmp_path / "unfinished" / "model.ckpt"
    path.parent.mkdir()
    torch.save({"state_dict": Malicious()}, path)
    with pytest.raises(ValueError, match="is damaged"):
        build_contrastive(build_counts()).train(5, checkpoint_dir=tmp_path, **QUICK)
    assert not (tmp_path / "made").exists()


def test_a_file_that_was_cut_off_is_named(build_counts, tmp_path):
    interrupt(build_contrastive(build_counts()), tmp_path)
    path = next(tmp_path.glob("**/model.ckpt"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.ckpt is damaged: .*remove it"):
        build_contrastive(build_counts()).train(5, checkpoint_dir=tmp_path, **QUICK)


# from outside


def kill_in_training(processes, folder, number, seconds):
    """Train in another process, and send it a signal so long after it has begun, unless it has ended."""
    training = processes.Event()
    child = processes.Process(target=embed_until_killed, args=(training, folder))
    child.start()
    assert training.wait(60)
    time.sleep(seconds)
    while child.is_alive():  # again where it was lost: Python ignores a Ctrl-C that falls into a callback from C
        with suppress(ProcessLookupError):
            os.kill(child.pid, number)
        child.join(0.2)


def test_killed_ten_times_at_random_it_ends_with_the_embedding_of_an_undisturbed_run(processes, tmp_path):
    expected = embed_counts(tmp_path / "undisturbed")
    rng, n_resumed = np.random.default_rng(), 0
    left = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT] * 3 + [signal.SIGKILL]
    folders = (tmp_path / str(number) for number in count())
    folder = next(folders)
    while left:
        n_resumed += any(folder.glob("**/*.ckpt"))
        kill_in_training(processes, folder, left[-1], rng.uniform(0, 0.4))
        if (folder / "model.safetensors").exists():  # the model was complete before the signal came
            np.testing.assert_array_equal(embed_with(folder, make_counts()), expected)
            folder = next(folders)
        else:
            left.pop()
    assert n_resumed
    child = processes.Process(target=embed_counts, args=(folder,))
    child.start()
    child.join()
    assert child.exitcode == 0
    np.testing.assert_array_equal(embed_with(folder, make_counts()), expected)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_a_torch_that_may_run_code_of_a_checkpoint_does_not_read_it(tmp_path, monkeypatch):
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.ones(2)}, path)
    assert SafeCheckpointIO().load_checkpoint(path)["a"].sum() == 2
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ValueError, match="needs torch 2.10 or newer, found 2.9.1.*remove the file"):
        SafeCheckpointIO().load_checkpoint(path)


def test_a_checkpoint_follows_no_link(tmp_path):
    (tmp_path / "theirs").write_text("precious")
    (tmp_path / "model.tmp").symlink_to(tmp_path / "theirs")
    SafeCheckpointIO().save_checkpoint({"a": torch.ones(2)}, tmp_path / "model.ckpt")
    assert (tmp_path / "theirs").read_text() == "precious"
    assert not (tmp_path / "model.ckpt").is_symlink()
