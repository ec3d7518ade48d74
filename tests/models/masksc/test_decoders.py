"""The decoders of MaskSC."""

import torch

from sc_ssl.models.masksc.decoders import MaskedDecoder


def test_decoder_predicts_each_hidden_token_from_its_own_position():
    decoder = MaskedDecoder(6, 8, width=8, n_layers=1, n_heads=2, n_output=3).eval()
    encoded = torch.randn(2, 3, 8)
    visible, hidden = torch.tensor([[0, 1], [0, 1]]), torch.tensor([[2, 3, 4], [4, 3, 2]])
    predicted = decoder(encoded[:1].repeat(2, 1, 1), visible, hidden)
    torch.testing.assert_close(predicted[0], predicted[1].flip(0), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(predicted[0, 0], predicted[0, 1])
