"""Divide and conquer: the gradient of the whole minibatch from its parts."""

import copy
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from small_models import minibatches
from torch import nn
from two_processes import measure_alone, measure_rank

from sc_ssl import models
from sc_ssl.train import ChunkedContrastPlan, divide, divided_backward, end_to_end
from sc_ssl.train import chunked_contrast as chunked

QUICK = {"enable_progress_bar": False, "accelerator": "cpu"}
SMALL = {"n_latent": 16, "transformer": {"n_layers": 2, "n_heads": 2}}


def build(counts, model_class=models.CellLM, **options):
    torch.manual_seed(0)
    model_class.setup_anndata(counts)
    return model_class(counts, **options)


@pytest.fixture
def celllm(build_counts):
    """All three terms, dropout and thinning, 22 cells in float64."""
    counts = build_counts(22)
    counts.obs["tumour"] = (np.arange(22) % 3 == 0).astype(object)
    counts.obs.loc[counts.obs_names[4], "tumour"] = None
    model = build(counts, **SMALL, malignancy_key="tumour")
    module = model.module.double().train()
    cells = next(minibatches(model))
    return module, {name: value.double() if value.is_floating_point() else value for name, value in cells.items()}


def gradient_of(module):
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def by_end_to_end(module, chunks, seed=5):
    module.zero_grad()
    terms = end_to_end(module, chunks, seed)
    sum(terms.values()).backward()
    return terms, gradient_of(module)


def by_parts(module, chunks, seed=5):
    module.zero_grad()
    return divided_backward(module, chunks, seed), gradient_of(module)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("size", [1, 4, 8, 22])  # 22 = 5 · 4 + 2 = 2 · 8 + 6
def test_gradient_is_that_of_the_whole(celllm, size):
    module, cells = celllm
    chunks = divide(module, cells, size)
    expected_terms, expected = by_end_to_end(module, chunks)
    terms, found = by_parts(module, chunks)
    assert set(terms) == {"contrastive", "masked", "malignancy"}
    assert relative(found, expected) <= 1e-10
    for name, term in expected_terms.items():
        torch.testing.assert_close(terms[name], term, rtol=1e-10, atol=0)


def test_without_replay_the_gradient_is_another_and_is_refused(celllm, monkeypatch):
    module, cells = celllm
    chunks = divide(module, cells, 4)
    _, expected = by_end_to_end(module, chunks)
    encode, n_calls = chunked._encode, iter(range(100))
    monkeypatch.setattr(chunked, "_encode", lambda m, c, v, seed: encode(m, c, v, seed + next(n_calls)))
    with pytest.raises(RuntimeError, match="two passes of a divided minibatch differ by"):
        by_parts(module, chunks)
    monkeypatch.setattr(chunked, "_check_replay", lambda *_: None)
    assert relative(by_parts(module, chunks)[1], expected) > 0.05


def test_negatives_of_one_chunk_alone_give_another_gradient(celllm):
    module, cells = celllm
    chunks = divide(module, cells, 4)
    _, expected = by_end_to_end(module, chunks)
    module.zero_grad()
    for chunk in chunks:
        (sum(end_to_end(module, [chunk], 5).values()) / len(chunks)).backward()
    assert relative(gradient_of(module), expected) > 0.05


def test_terms_of_single_cells_are_means_over_all_chunks(celllm):
    module, cells = celllm
    chunks = divide(module, cells, 8)
    terms = divided_backward(module, chunks, 5)
    views = [list(chunked._encode(module, chunks, v, 5)) for v in (0, 1)]
    views = [view for view_k in views for view in view_k]
    n_masked = sum(int(view.counts["masked"]) for view in views)
    assert float(terms["masked"]) == pytest.approx(
        sum(float(view.sums["masked"].detach()) for view in views) / n_masked
    )
    assert sum(int(view.counts["malignancy"]) for view in views) == 2 * 21  # one cell has no label


def test_chunks_hold_every_cell_once_and_like_lengths_together(celllm):
    module, cells = celllm
    chunks = divide(module, cells, 4)
    assert [len(chunk["batch"]) for chunk in chunks] == [4, 4, 4, 4, 4, 2]
    lengths = torch.cat([(chunk["X"] > 0).sum(1) for chunk in chunks])
    assert torch.equal(lengths, (cells["X"] > 0).sum(1).sort().values)


def noiseless(counts):
    return build(
        counts,
        n_latent=16,
        transformer=SMALL["transformer"] | {"dropout_rate": 0},
        view={"gene_dropout_rate": 0, "thinning_rate": 0},
        tokens={"max_training_genes": None},
    )


def layer_norm_contrastive(counts):
    return build(counts, models.ContrastiveSC, n_hidden=[32], n_latent=8, norm="layer")


@pytest.mark.parametrize("make", [noiseless, layer_norm_contrastive])
def test_three_steps_do_not_depend_on_the_size_of_the_parts(build_counts, make):
    states = {}
    for size in (4, 8, 40):
        model = make(build_counts())
        torch.manual_seed(1)
        model.module.double().reads_counts = True  # so that it normalises them itself, in float64
        model.train(1, batch_size=40, micro_batch_size=size, plan_kwargs={"lr": 1e-3}, **QUICK | {"precision": 64})
        states[size] = model.module.state_dict()
    for size in (4, 8):
        for name, tensor in states[40].items():
            torch.testing.assert_close(states[size][name], tensor, rtol=1e-6, atol=1e-8, msg=f"{size} {name}")


def test_the_callers_random_state_is_as_it_was(celllm):
    module, cells = celllm
    state = torch.get_rng_state()
    divided_backward(module, divide(module, cells, 4), 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_norm_in_the_encoder_is_refused(counts):
    model = build(counts, models.ContrastiveSC, n_hidden=[32], n_latent=8)
    with pytest.raises(ValueError, match="batch norm, .* layer norm"):
        model.train(1, batch_size=40, micro_batch_size=10, **QUICK)


def test_methods_without_parts_and_impossible_sizes_are_refused(counts):
    masksc = build(counts, models.MaskSC, n_hidden=16, transformer={"n_layers": 1, "n_heads": 2}, patches={"size": 16})
    with pytest.raises(ValueError, match="MaskSC does not"):
        masksc.train(1, micro_batch_size=4, **QUICK)
    model = build(counts, **SMALL)
    for size in (41, 0, 2.5, "all"):
        with pytest.raises(ValueError, match=rf"between 1 and batch_size, found {size!r} and 40"):
            model.train(1, batch_size=40, micro_batch_size=size, **QUICK)


@pytest.mark.parametrize("grouped", [True, False])
def test_of_several_processes_an_undivided_minibatch_shares_its_gradient_too(celllm, monkeypatch, grouped):
    module, cells = celllm
    divided = []
    monkeypatch.setattr(chunked, "grouped", lambda: grouped)
    monkeypatch.setattr(chunked, "divided_backward", lambda *arguments: divided.append(arguments) or {})
    plan = ChunkedContrastPlan(module, micro_batch_size=22)
    monkeypatch.setattr(plan, "optimizers", lambda: torch.optim.SGD(module.parameters(), 0.1))
    plan._backward(cells, 5)
    assert len(divided) == grouped


def test_auto_halves_when_memory_runs_out(counts, monkeypatch):
    model = build(counts, **SMALL)
    encode_view, sizes = model.module.encode_view, []

    def limited(cells):
        sizes.append(len(cells["batch"]))
        if sizes[-1] > 12:
            raise torch.OutOfMemoryError("no more")
        return encode_view(cells)

    monkeypatch.setattr(model.module, "encode_view", limited)
    model.train(1, batch_size=40, micro_batch_size="auto", **QUICK)
    assert sizes[:4] == [40, 20, 10, 10]
    assert max(sizes[2:]) == 10
    with pytest.raises(torch.OutOfMemoryError, match="no more"):
        model.train(1, batch_size=40, micro_batch_size=20, **QUICK)


def test_the_gradient_is_clipped(counts, monkeypatch):
    norms = []

    def note(plan):
        norms.append(float(sum(p.grad.square().sum() for p in plan.module.parameters() if p.grad is not None)) ** 0.5)
        return step(plan)

    step = ChunkedContrastPlan.lr_schedulers
    monkeypatch.setattr(ChunkedContrastPlan, "lr_schedulers", note)
    build(counts, **SMALL).train(1, batch_size=40, micro_batch_size=10, gradient_clip_val=1e-3, **QUICK)
    assert max(norms) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("model_class", [models.BarlowTwins, models.VICReg, models.SimCLR])
def test_head_on_all_embeddings_may_have_batch_norm(build_counts, model_class):
    counts = build_counts(22)
    model = build(counts, model_class, n_hidden=[16], n_latent=8, projector=[8, 8], norm="layer")
    assert any(isinstance(layer, nn.BatchNorm1d) for layer in model.module.projector.modules())
    module = model.module.double().train()
    cells = {"X": torch.rand(22, counts.n_vars, dtype=torch.float64).mul(9).round()}
    cells |= {"library_size": cells["X"].sum(dim=1, keepdim=True), "batch": torch.zeros(22, 1, dtype=torch.int64)}
    chunks = divide(module, cells, 4)
    _, expected = by_end_to_end(copy.deepcopy(module), chunks)
    assert relative(by_parts(module, chunks)[1], expected) <= 1e-10


@pytest.mark.skipif(not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="no gloo")
def test_two_processes_give_the_gradient_of_one_in_one_all_reduce(processes, tmp_path):
    with ProcessPoolExecutor(2, mp_context=processes) as executor:
        ranks = [executor.submit(measure_rank, rank, tmp_path) for rank in (0, 1)]
        try:
            found = [rank.result(timeout=120) for rank in ranks]
        except RuntimeError as error:
            if "gloo" in str(error) and "connect" in str(error).lower():
                pytest.skip("gloo cannot start here")
            raise
    expected, expected_terms = measure_alone()
    for gradient, terms, n_reduced in found:
        assert np.linalg.norm(gradient - expected) <= 1e-10 * np.linalg.norm(expected)
        assert terms == pytest.approx(expected_terms, rel=1e-10)
        assert n_reduced == 1
