import numpy as np
import pytest
import torch

from sc_ssl.nn import MLP, LogNormalize, Transformer


def minibatch(counts, **more):
    x = torch.as_tensor(counts, dtype=torch.float32)
    n = len(x)
    return {
        "X": x,
        "library_size": x.sum(1, keepdim=True).clamp(min=1),
        "batch": torch.zeros(n, 1, dtype=torch.long),
    } | more


def test_normalisation_is_the_formula():
    counts = np.random.default_rng(0).poisson(2.0, (50, 7))
    library = counts.sum(1, keepdims=True)
    logged = np.log1p(counts / library * 9.0)
    mean, sd = logged.mean(0), logged.std(0)
    normalize = LogNormalize(7, clip=1.5)
    normalize.set_statistics(9.0, torch.as_tensor(np.stack([mean, mean])), torch.as_tensor(np.stack([sd, sd])))
    expected = np.clip((logged - mean) / sd, -1.5, 1.5)
    np.testing.assert_allclose(normalize(minibatch(counts)), expected, atol=1e-5)


def test_log_input_is_only_z_scored():
    normalize = LogNormalize(3, log_input=True)
    x = torch.rand(4, 3)
    torch.testing.assert_close(normalize(minibatch(x)), x)


def test_each_batch_has_its_statistics_and_a_new_one_those_of_all():
    normalize = LogNormalize(1, n_batch=2, log_input=True)
    normalize.set_statistics(1.0, torch.tensor([[1.0], [2.0], [3.0]]), torch.ones(3, 1))
    cells = minibatch(torch.full((3, 1), 4.0), batch=torch.tensor([[0], [1], [-1]]))
    assert normalize(cells).flatten().tolist() == [2.0, 1.0, 3.0]


def test_a_gene_that_was_not_measured_takes_its_mean():
    normalize = LogNormalize(2, log_input=True)
    normalize.set_statistics(1.0, torch.full((2, 2), 5.0), torch.ones(2, 2))
    cells = minibatch(torch.zeros(1, 2), measured=torch.tensor([True, False]))
    assert normalize(cells).tolist() == [[-5.0, 0.0]]


def test_mlp_has_nothing_after_its_output_and_refuses_an_unknown_norm():
    mlp = MLP(5, [8, 4], 3, norm="layer")
    assert [type(layer).__name__ for layer in mlp] == ["Linear", "LayerNorm", "ReLU"] * 2 + ["Linear"]
    assert mlp(torch.randn(2, 5)).shape == (2, 3)
    with pytest.raises(ValueError, match="norm is one of 'batch', 'layer', 'none', found 'group'"):
        MLP(5, [8], 3, norm="group")


def test_explicit_attention_equals_the_fused_one_and_sums_to_one():
    transformer = Transformer(16, n_layers=1, n_heads=4)
    attention = transformer.blocks[0].attention
    x = torch.randn(2, 5, 16)
    output, weights = attention.with_weights(x)
    torch.testing.assert_close(output, attention(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    assert transformer.attention(x).shape == (2, 5, 5)


def test_a_transformer_does_not_mind_the_order_of_tokens():
    transformer = Transformer(8, n_layers=2, n_heads=2).eval()
    x, order = torch.randn(3, 6, 8), torch.randperm(6)
    torch.testing.assert_close(transformer(x)[:, order], transformer(x[:, order]), atol=1e-5, rtol=1e-5)


def test_z_scores_are_undone_before_their_weights():
    normalize = LogNormalize(3, n_batch=2)
    normalize.set_statistics(50.0, torch.rand(3, 3), torch.rand(3, 3) + 1, torch.tensor([1.0, 2.0, 3.0]))
    cells = minibatch(torch.tensor([[4.0, 0, 3], [1, 2, 5]]), batch=torch.tensor([[1], [-1]]))
    unweighed = normalize(cells) / normalize.weight_g
    torch.testing.assert_close(normalize.unstandardize(unweighed, cells), normalize.log_expression(cells))


def test_mlp_layers_without_norm_with_dropout():
    mlp = MLP(5, [8], 3, norm="none", activation="selu", dropout_rate=0.2)
    assert [type(layer).__name__ for layer in mlp] == ["Linear", "SELU", "Dropout", "Linear"]
