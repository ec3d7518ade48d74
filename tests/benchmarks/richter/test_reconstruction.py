from dataclasses import replace

import pytest

from benchmarks.quality.cells import split
from benchmarks.quality.richter import encoders, neighbours, reconstruction
from sc_ssl.models import MaskedAutoencoder


@pytest.fixture
def study(build_counts, monkeypatch):
    monkeypatch.setattr(MaskedAutoencoder, "training", replace(MaskedAutoencoder.training, max_epochs=30, min_steps=60))
    return reconstruction.Study(*split(build_counts(250, depth=6.0), 0, by_type=False))


@pytest.fixture
def sets(tmp_path, monkeypatch):
    genes = [f"gene_{i}" for i in range(96)]
    lines = (f"set_{i}\tx\t" + "\t".join(genes[i * 16 : i * 16 + 16]) for i in range(6))
    (tmp_path / "sets.gmt").write_text("\n".join(lines))
    monkeypatch.setenv("SC_SSL_DATA", str(tmp_path))
    monkeypatch.setitem(encoders.MASKS, "gene_programs", ("sets.gmt", {}))


def test_every_score_is_the_one_that_its_name_says(study, monkeypatch):
    class Model:
        def get_explained_variance(self, cells, *, masked, weighted, random_state):
            assert cells is study.test and random_state == 3
            return {(True, True): 1, (True, False): 2, (False, True): 3, (False, False): 4}[masked, weighted]

    monkeypatch.setattr(reconstruction, "model_of", lambda *_: Model())
    assert reconstruction.autoencoder()(study, 3) == {
        "hidden, weighted": 1,
        "hidden, uniform": 2,
        "all, weighted": 3,
        "all, uniform": 4,
    }
    assert (
        reconstruction.components(study, 3)["hidden, weighted"] < reconstruction.components(study, 3)["all, weighted"]
    )


def test_the_parts_of_types_are_explained_and_no_more_when_hidden(study):
    scores = reconstruction.autoencoder()(study, 0)
    assert 0.1 < scores["hidden, weighted"] < 1
    assert scores["all, weighted"] > 0.1


def test_programmes_are_read_from_the_folders(study, sets, monkeypatch):
    scores = reconstruction.autoencoder("gene_programs")(study, 0)
    assert scores["hidden, weighted"] > 0.05
    monkeypatch.setitem(encoders.MASKS, "gene_programs", ("none.gmt", {}))
    with pytest.raises(FileNotFoundError, match=r"none\.gmt is in none of the folders"):
        reconstruction.autoencoder("gene_programs")(study, 0)


def test_embeddings_by_masks_of_programmes_are_scored_by_neighbours(study, sets):
    assert neighbours.benchmark().on_demand["mae, gene_programs"](study.train, 0)["macro_f1"] > 0.8


def test_components_explain_what_they_span(study, monkeypatch):
    monkeypatch.setattr(reconstruction, "N_COMPONENTS", 2)
    few = reconstruction.components(study, 0)
    monkeypatch.setattr(reconstruction, "N_COMPONENTS", 60)
    many = reconstruction.components(study, 0)
    assert many["all, weighted"] > few["all, weighted"] > 0.1
    assert many["hidden, weighted"] < many["all, weighted"]
