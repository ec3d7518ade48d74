import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from sc_ssl.data import CellLoader, Cells, Minibatch
from sc_ssl.train.chunked_contrast import Chunks


def never():
    pytest.fail("it was made")


def test_what_is_not_asked_for_is_not_made():
    minibatch = Minibatch({"batch": torch.zeros(3, 1)}, {"X": never})
    assert "X" in minibatch and "normalized" not in minibatch
    assert (list(minibatch), len(minibatch)) == (["batch", "X"], 2)
    assert move_data_to_device(minibatch, torch.device("cpu")) is minibatch
    chunk = Chunks(minibatch, [torch.tensor([0, 2]), torch.tensor([1])])[0]
    assert chunk["batch"].shape == (2, 1) and "X" in chunk
    (minibatch | {"batch": torch.ones(3, 1)})["batch"]


def test_what_is_asked_for_is_made_once():
    made = []
    minibatch = Minibatch({}, {"X": lambda: made.append(1) or torch.ones(2, 2)})
    assert minibatch["X"] is minibatch["X"]
    assert len(made) == 1
    with pytest.raises(KeyError, match="normalized"):
        minibatch["normalized"]


def test_other_counts_are_not_taken_for_normalised_ones():
    minibatch = Minibatch({"normalized": torch.ones(2, 2)}, {"X": never})
    assert "normalized" not in minibatch | {"X": torch.zeros(2, 2)}
    assert "normalized" in minibatch | {"batch": torch.zeros(2, 1)}


def test_an_embedding_beside_the_cells_needs_no_counts(counts, monkeypatch):
    z_nd = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    cells = Cells.from_anndata(counts, list(counts.var_names)).beside(z=z_nd)
    monkeypatch.setattr(CellLoader, "_densify", lambda *_: never())
    loader = CellLoader(cells.take(np.arange(50, 100)), np.arange(50), 20, normalize=lambda cells: never())
    found = torch.cat([minibatch["z"] for minibatch in loader])
    np.testing.assert_array_equal(found, z_nd[50:100])


@pytest.mark.parametrize("inference", [False, True])
def test_normalised_once_is_what_is_normalised_each_time(counts, inference):
    def normalize(cells):
        return torch.log1p(cells["X"] / cells["library_size"])

    cells = Cells.from_anndata(counts, list(counts.var_names))
    loader = CellLoader(cells, np.arange(120)[::-1].copy(), 32, normalize=normalize)
    with torch.inference_mode(inference):
        for minibatch in loader:
            assert torch.equal(minibatch["normalized"], normalize(minibatch))
    weight = torch.ones(96, requires_grad=True)  # what was made in inference mode can be trained on
    (next(iter(loader))["normalized"] @ weight).sum().backward()
