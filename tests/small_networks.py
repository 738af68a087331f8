"""Small networks and data on which every formula can be checked by brute force in float64."""

import numpy as np
import torch
from torch import nn

from bayestda.model.examples import Data


class WithStrangers(nn.Module):
    """A network with layers that hooks do not cover: layer norm, shared layer, plain parameter."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(5)
        self.shared = nn.Linear(5, 5, bias=False)
        self.scale = nn.Parameter(torch.ones(5))
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        hidden = self.norm(torch.tanh(self.embed(x.flatten(1))))
        return self.head(self.scale * torch.tanh(self.shared(torch.tanh(self.shared(hidden)))))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 4))


def tiny_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 3, 2, padding=1, stride=2), nn.GELU(), nn.Flatten(), nn.Linear(18, 4)
    )


def strange_cnn():
    """Convolutions that hooks leave to ``vmap``: dilated, in groups, padded by a word."""
    return nn.Sequential(
        nn.Conv2d(1, 4, (1, 2), dilation=(1, 2)), nn.Tanh(),
        nn.Conv2d(4, 4, (1, 3), groups=2, padding="same"), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


def sequence_mlp():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(8, 4))


NETWORKS = {f.__name__: f for f in (mlp, tiny_cnn, strange_cnn, sequence_mlp, WithStrangers)}


def examples(network_name: str, count: int, seed: int, dtype=torch.float64) -> Data:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 2, 4) if network_name.endswith("cnn") else (2, 3)
    x = torch.randn(count, *shape, generator=generator, dtype=dtype)
    y = torch.randint(0, 4, (count,), generator=generator)
    return Data(x=x, y=y, index=np.arange(count))
