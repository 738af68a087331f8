"""What is measured is the function that is trained, in float64."""

import pytest
import torch
from torch import nn

import bayestda as tda
from bayestda.gradients.sample import SampleGradients
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters
from bayestda.model.precision import differentiated_attention
from bayestda.training.loop import losses


class Text(nn.Module):
    """An encoder whose output is pooled over all positions, padded ones too."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 4, padding_idx=0)
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(4, 2)

    def forward(self, ids):
        padded = ids == 0
        return self.head(self.encoder(self.words(ids), src_key_padding_mask=padded).mean(1))


@pytest.fixture
def text():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, ids = Text().double().eval(), torch.randint(1, 9, (5, 6))
    ids[1:, 4:] = 0
    data = Data(ids, torch.arange(5) % 2, torch.arange(5).numpy())
    return network, data, network(ids).detach()


def test_measured_losses_are_those_of_the_function_that_is_differentiated(text):
    network, data, output_NK = text
    expected_N = nn.functional.cross_entropy(output_NK, data.y, reduction="none")
    theta_1P = Parameters(network).read(network)[None]
    found_1N = losses(network, tda.Classification(), theta_1P, data)
    torch.testing.assert_close(found_1N[0], expected_N, rtol=1e-12, atol=0)


def test_outputs_beside_gradients_are_those_of_the_function_that_is_differentiated(text):
    network, data, output_NK = text
    for parameter in network.encoder.parameters():
        parameter.requires_grad_(False)  # a frozen encoder would take the fast path anywhere
    gradients = SampleGradients(
        network, tda.Classification(), Parameters(network).read(network),
        train=data, test=data, memory_bytes=1e9,
    )  # fmt: skip
    torch.testing.assert_close(gradients.outputs_NK, output_NK, rtol=1e-12, atol=0)
    rows = gradients.captured(data.x, lambda found_BK: found_BK[None])  # of the outputs seen there
    found_BP = gradients.vectors(rows)[:, 0]
    bias_B2 = Parameters(network).split(found_BP)["head.bias"]
    torch.testing.assert_close(bias_B2, output_NK, rtol=1e-12, atol=0)


@pytest.mark.parametrize("before", [True, False])
def test_the_setting_of_before_is_restored(before):
    previous = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(before)
    try:
        with differentiated_attention():
            assert not torch.backends.mha.get_fastpath_enabled()
        assert torch.backends.mha.get_fastpath_enabled() is before
    finally:
        torch.backends.mha.set_fastpath_enabled(previous)
