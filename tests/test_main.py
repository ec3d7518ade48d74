"""The command line: 0 when it worked, 2 and one line on stderr when the user has to change something."""

import subprocess
import sys
import tomllib
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import sc_ssl
from sc_ssl import models
from sc_ssl.__main__ import main

QUICK = ["--method", "contrastive_sc", "--max-epochs", "1", "--accelerator", "cpu"]


@pytest.fixture
def cells(counts, tmp_path):
    """An h5ad file of raw counts."""
    counts.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def run(*arguments, command="embed"):
    return main([command, *map(str, arguments)])


def last_line(capsys):
    """What is on stderr beside the progress that the package tells."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("sc_ssl: ")]
    assert len(lines) == 1
    assert error.rstrip().endswith(lines[0])
    return lines[0]


def test_embedding_is_written(cells, tmp_path):
    out = tmp_path / "out.h5ad"
    assert run(cells, "--out", out, *QUICK) == 0
    written, original = ad.read_h5ad(out), ad.read_h5ad(cells)
    assert written.obsm["X_contrastive_sc"].shape == (120, 64)
    np.testing.assert_array_equal(written.X.toarray(), original.X.toarray())
    assert not original.obsm


def test_options_reach_the_method(cells, tmp_path):
    out, folder = tmp_path / "out.h5ad", tmp_path / "model"
    options = ["--n-top-genes", 40, "--key-added", "z", "--random-state", 3, "--save-model", folder]
    assert run(cells, "--out", out, *QUICK, "--batch-key", "donor", *options) == 0
    written = ad.read_h5ad(out)
    assert len(written.uns["z"]["genes"]["names"]) == 40
    assert written.uns["z"]["params"]["random_state"] == 3
    assert run(cells, "--out", tmp_path / "again.h5ad", "--method", folder, "--batch-key", "donor") == 0
    again = ad.read_h5ad(tmp_path / "again.h5ad").obsm["X_contrastive_sc"]
    np.testing.assert_allclose(again, written.obsm["z"], atol=1e-5)


def test_cells_are_clustered_and_annotated_in_zarr_and_h5ad(cells, tmp_path, capsys):
    clustered, annotated = tmp_path / "clustered.zarr", tmp_path / "annotated.h5ad"
    assert run(cells, "--out", clustered, *QUICK, "--key-added", "z") == 0
    assert run(clustered, "--out", clustered, "--use-rep", "z", "--n-clusters", 3, command="cluster") == 0
    assert ad.read_zarr(clustered).obs["z_cluster"].nunique() == 3
    options = ["--labels-key", "cell_type", "--key-added", "found", "--method", "knn", "--quiet", *QUICK[2:]]
    capsys.readouterr()
    assert run(clustered, "--out", annotated, "--reference", cells, *options, command="annotate") == 0
    assert "sc_ssl" not in capsys.readouterr().err
    written = ad.read_h5ad(annotated).obs
    assert (written["found"].astype(str) == written["cell_type"].astype(str)).mean() > 0.8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotated.h5ad", "cells.h5ad", "clustered.zarr"]


def test_a_file_of_another_kind_is_refused_before_anything_is_read(tmp_path, capsys):
    assert run(tmp_path / "cells.h5ad", "--out", tmp_path / "out.csv") == 2
    assert "out.csv should end in .h5ad or .zarr" in last_line(capsys)


def test_the_version_is_printed_and_the_script_is_installed(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["--version"])
    assert exit_info.value.code == 0
    assert capsys.readouterr().out == f"sc_ssl {sc_ssl.__version__}\n"
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"sc_ssl": "sc_ssl.__main__:main"}


def test_missing_file_is_named(tmp_path, capsys):
    assert run(tmp_path / "nowhere.h5ad", "--out", tmp_path / "out.h5ad") == 2
    assert "nowhere.h5ad" in last_line(capsys)


def test_log1p_cells_are_refused_with_the_remedy(counts, tmp_path, capsys):
    counts.X = np.log1p(counts.X / 3)
    counts.write_h5ad(tmp_path / "cells.h5ad")
    assert run(tmp_path / "cells.h5ad", "--out", tmp_path / "out.h5ad", *QUICK) == 2
    assert "must hold raw counts" in last_line(capsys)
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "mask_sc"], "method is one of 'masksc', 'contrastive_sc'"),
        (["--layer", "umis"], "layer 'umis' is not in adata.layers"),
        (["--batch-key", "site"], "'site' is not in adata.obs"),
        (["--save-model", "."], "exists already"),
    ],
)
def test_mistakes_in_options_are_told(cells, tmp_path, capsys, options, message):
    assert run(cells, "--out", tmp_path / "out.h5ad", *QUICK, *options) == 2
    assert message in last_line(capsys)


def test_missing_folder_is_told_before_anything_is_done(tmp_path, capsys):
    assert run(tmp_path / "nowhere.h5ad", "--out", tmp_path / "missing" / "out.h5ad") == 2
    assert "for --out does not exist; make it first" in last_line(capsys)


def test_a_damaged_model_is_told(cells, tmp_path, capsys):
    folder = tmp_path / "model"
    assert run(cells, "--out", tmp_path / "out.h5ad", *QUICK, "--save-model", folder) == 0
    tensors = folder / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    assert run(cells, "--out", tmp_path / "out.h5ad", "--method", folder) == 2
    assert "model.safetensors is damaged" in last_line(capsys)


def test_an_interruption_ends_with_a_line(cells, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(models.ContrastiveSC, "train", interrupt)
    monkeypatch.setattr(models.MaskSC, "train", interrupt)
    assert run(cells, "--out", tmp_path / "out.h5ad", *QUICK) == 130
    assert "with --save-model the same command goes on" in last_line(capsys)


def test_a_file_that_is_no_h5ad_is_told(tmp_path, capsys):
    (tmp_path / "cells.h5ad").write_text("no cells")
    assert run(tmp_path / "cells.h5ad", "--out", tmp_path / "out.h5ad") == 2
    assert last_line(capsys)


@pytest.mark.parametrize("arguments", [[], ["embed"], ["embed", "in.h5ad"], ["train"]])
def test_incomplete_commands_show_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_module_runs_as_a_command(tmp_path):
    command = [sys.executable, "-m", "sc_ssl", "embed", tmp_path / "in.h5ad", "--out", tmp_path / "no" / "out.h5ad"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["stuff.zarr", "mine.h5ad"])
def test_a_folder_that_is_no_store_is_never_replaced(cells, tmp_path, capsys, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("precious")
    assert run(cells, "--out", tmp_path / name, "--method", "pca_cosine") == 2
    assert "is a folder and no zarr store" in last_line(capsys)
    assert (tmp_path / name / "notes.txt").read_text() == "precious"


def test_no_link_is_written_through(cells, tmp_path):
    (tmp_path / "theirs").write_text("precious")
    (tmp_path / ".out.unfinished.h5ad").symlink_to(tmp_path / "theirs")
    assert run(cells, "--out", tmp_path / "out.h5ad", "--method", "pca_cosine") == 0
    assert (tmp_path / "theirs").read_text() == "precious"
    assert not (tmp_path / "out.h5ad").is_symlink()
