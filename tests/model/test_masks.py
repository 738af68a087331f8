"""Padding is told by masks among the inputs."""

import pytest
import torch
from torch import nn

from bayestda.model.masks import mask_of, real_positions, without_padding

REAL = torch.tensor([[1, 1, 0], [1, 1, 1]])


class Encoder(nn.Module):
    def forward(self, tokens, src_key_padding_mask):
        return tokens, src_key_padding_mask


@pytest.mark.parametrize(
    "x",
    [
        {"attention_mask": REAL},
        {"mask": REAL.bool()},
        {"mask": REAL.float()},
        {"masks": {"attention_mask": REAL}},
        {"padding_mask": REAL == 0},
        {"src_key_padding_mask": REAL == 0},
        (torch.zeros(2, 3), REAL == 0),
    ],
    ids=[
        "attention_mask",
        "mask",
        "float",
        "nested",
        "padding_mask",
        "src_key_padding_mask",
        "by the arguments",
    ],
)
def test_masks_are_told_by_their_names(x):
    (mask_BT,) = real_positions(Encoder(), x).values()
    assert mask_BT.equal(REAL.bool())


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(2, 3),
        {"mask": torch.ones(2, 1, 3, 3, dtype=torch.long)},
        {"mask": torch.zeros(2, 3)},
        {"mask": torch.where(REAL == 1, 0.0, -torch.inf)},
        {"other": REAL},
    ],
)
def test_other_inputs_are_no_masks(x):
    assert real_positions(Encoder(), x) == {}


def test_a_decoder_has_its_own_mask():
    masks = {"attention_mask": REAL.bool(), "decoder_attention_mask": REAL.flip(0).bool()}
    assert mask_of(masks, "model.encoder.0.dense", 3).equal(REAL.bool())
    assert mask_of(masks, "model.decoder.0.dense", 3).equal(REAL.flip(0).bool())
    assert mask_of(masks, "model.encoder.0.dense", 4) is None


def test_padding_is_left_out_unless_an_output_depends_on_it():
    a_BTI, delta_BLTO = torch.ones(2, 3, 4), torch.zeros(2, 1, 3, 2)
    kept = without_padding(a_BTI, delta_BLTO, REAL.bool())
    assert kept[..., 0].tolist() == REAL.tolist()
    delta_BLTO[0, 0, 2, 1] = 1
    assert without_padding(a_BTI, delta_BLTO, REAL.bool()).equal(a_BTI)
    assert without_padding(a_BTI, delta_BLTO, None) is a_BTI
