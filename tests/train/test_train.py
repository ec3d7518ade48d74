import random

import numpy as np
import pytest
import torch

from sc_ssl.train import SSLTrainingPlan, seeded, warmup_cosine


def test_schedule_rises_to_one_and_falls_to_zero():
    factors = [warmup_cosine(step, n_steps=100, warmup_rate=0.1) for step in range(100)]
    assert factors[10] == pytest.approx(1.0)
    assert all(np.diff(factors[:11]) > 0) and all(np.diff(factors[10:]) < 0)
    assert factors[-1] < 0.01 and min(factors) > 0


def test_schedule_without_warm_up_starts_at_one():
    assert warmup_cosine(0, n_steps=10, warmup_rate=0.0) == 1.0


def test_seeded_repeats_and_leaves_the_callers_state():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    with seeded(3):
        inside = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with seeded(3) as seed:
        assert seed == 3 and draw() == inside
    assert draw() == expected


def test_seeded_restores_the_state_after_an_error():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with pytest.raises(RuntimeError), seeded(0):
        raise RuntimeError
    assert torch.equal(torch.rand(1), expected)


def test_no_seed_runs_on_the_callers_state():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with seeded(None) as seed:
        assert seed is None and torch.equal(torch.rand(1), expected)


def test_weight_decay_spares_biases_norms_tokens_and_positions():
    module = torch.nn.Module()
    module.linear, module.norm = torch.nn.Linear(3, 3), torch.nn.LayerNorm(3)
    module.position = torch.nn.Parameter(torch.zeros(4, 3))
    plan = SSLTrainingPlan(module, schedule="constant", weight_decay=0.1)
    decayed, spared = plan.configure_optimizers()["optimizer"].param_groups
    assert decayed["weight_decay"] == 0.1 and [p is module.linear.weight for p in decayed["params"]] == [True]
    assert spared["weight_decay"] == 0 and len(spared["params"]) == 4
    assert decayed["eps"] == 1e-8


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule is 'cosine' or 'constant', found 'step'"):
        SSLTrainingPlan(torch.nn.Linear(1, 1), schedule="step")


def test_parameters_can_have_rates_of_their_own():
    module = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 2)})
    plan = SSLTrainingPlan(module, lr=0.1, weight_decay=0.5, schedule="constant", lr_factor={"encoder.": 0.01})
    optimizer = plan.configure_optimizers()["optimizer"]
    settings = {
        id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }
    assert settings[id(module["encoder"].weight)] == pytest.approx((0.001, 0.5))
    assert settings[id(module["encoder"].bias)] == pytest.approx((0.001, 0))
    assert settings[id(module["head"].weight)] == pytest.approx((0.1, 0.5))
    assert settings[id(module["head"].bias)] == pytest.approx((0.1, 0))
