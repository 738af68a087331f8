"""Small networks that vmap, forward mode or double backward passes do not go through, or wrongly.

All take float64 inputs [N 4 3] or, those of :data:`OF_WORDS`, integers [N 4], and have 3 outputs.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from bayestda.model.examples import Data


class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell(3, 2, batch_first=True), nn.Linear(2, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.widen, self.head = nn.Linear(3, 4), nn.Linear(4, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        h = self.widen(x)
        return self.head((h + self.attention(h, h, h, need_weights=False)[0]).mean(1))


class Words(nn.Module):
    """Embeddings of words, or bags of them."""

    def __init__(self, table):
        super().__init__()
        self.table, self.head = table, nn.Linear(2, 3)

    def forward(self, x):
        h = torch.tanh(self.table(x))
        return self.head(h.mean(1) if h.ndim == 3 else h)


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.first(x).mT)).mean(-1))


class Solving(nn.Module):
    """A hidden layer that solves a system, and a log-determinant as output."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(3) + 0.2 * torch.randn(3, 3))
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        h = torch.tanh(torch.linalg.solve(self.matrix, x.mean(1).mT).mT)
        volume = torch.linalg.slogdet(self.matrix)[1].expand(len(x), 1)
        return torch.cat([self.head(h), volume], dim=1)


class Distances(nn.Module):
    def __init__(self):
        super().__init__()
        self.centres, self.head = nn.Parameter(torch.randn(4, 3)), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.cdist(x.mean(1), self.centres))


class Experts(nn.Module):
    """Each example goes to the expert that its inputs choose."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))

    def forward(self, x):
        h = x.mean(1)
        rows = [self.experts[int(row.sum() > 0)](torch.tanh(row)) for row in h.split(1)]
        return torch.cat(rows)


class Scalars(nn.Module):
    """Parameters without dims."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor(0.1))

    def forward(self, x):
        return torch.tanh(self.scale * x.sum(1) + self.shift) * self.scale


def scaled_weights():
    network = nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(12, 2)), nn.Tanh(), nn.Linear(2, 3))
    # At its start the norm is that of the weights, where a wrong derivative may be right.
    nn.init.uniform_(network[1].parametrizations.weight.original0, 1, 2)
    return network


ODD = {
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "attention": Attention,
    "bag": lambda: Words(nn.EmbeddingBag(9, 2)),
    "sparse embedding": lambda: Words(nn.Embedding(9, 2, sparse=True)),
    "sparse bag": lambda: Words(nn.EmbeddingBag(9, 2, mode="sum", sparse=True)),
    "weight norm": scaled_weights,
    "group norm": Normalised,
    "solve": Solving,
    "cdist": Distances,
    "experts": Experts,
    "scalars": Scalars,
}
OF_WORDS = ("bag", "sparse embedding", "sparse bag")


def odd(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return ODD[name]().double()


def odd_examples(name: str, count: int, seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    if name in OF_WORDS:
        x = torch.randint(0, 9, (count, 4), generator=generator)
    else:
        x = torch.randn(count, 4, 3, generator=generator, dtype=torch.float64)
    return Data(x=x, y=torch.arange(count) % 3, index=np.arange(count))
