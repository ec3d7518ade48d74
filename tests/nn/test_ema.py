import copy

import pytest
import torch
from torch import nn

from sc_ssl.nn import MovingAverage


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def moved(online):
    """The same network after a step of batch norm and one of its weights."""
    online = copy.deepcopy(online)
    online(torch.randn(16, 4) + 3)
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(torch.randn_like(parameter))
    return online


def test_average_is_the_formula_in_parameters_and_buffers():
    start = network()
    target = MovingAverage(start, 0.9)
    first, second = moved(start), moved(start)
    target.update(first)
    target.update(second)
    for name, found in target.average.state_dict().items():
        a, b, c = (net.state_dict()[name] for net in (start, first, second))
        expected = 0.9 * (0.9 * a + 0.1 * b) + 0.1 * c if found.is_floating_point() else c
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_average_stays_in_eval_mode_and_gets_no_gradient():
    target = MovingAverage(network(), 0.9)
    outer = nn.Sequential(target)
    outer.train()
    assert outer.training
    assert not any(part.training for part in target.modules())
    assert not target(torch.randn(5, 4, requires_grad=True)).requires_grad
    assert not any(parameter.requires_grad for parameter in target.parameters())


def test_average_is_a_copy():
    online = network()
    target = MovingAverage(online, 0.0)
    with torch.no_grad():
        online[0].weight.zero_()
    assert target.average[0].weight.any()
    target.update(online)
    assert not target.average[0].weight.any()


@pytest.mark.parametrize("momentum", [1.0, -0.1])
def test_an_average_that_never_moves_is_refused(momentum):
    with pytest.raises(ValueError, match=r"momentum lies in \[0, 1\), found"):
        MovingAverage(network(), momentum)
