"""The order in which the released code met its training examples (Nguyen et al. 2023).

It calls ``torch.manual_seed(seed)``, draws the network's initial parameters, and then reads a
shuffling ``DataLoader`` once an epoch, all from PyTorch's global generator. So the order depends on
how many numbers the parameters took. Its leave-one-out runs seed the generator as well, and read
the loader without building a network first. The paper says none of this; experiments 1 to 3 come
out as printed with it, and with no other order that was tried (docs/deviations.md).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def published_order(
    seed: int,
    num_train: int,
    epochs: int,
    batch_size: int,
    build: Callable[[], nn.Module] | None = None,
) -> Tensor:
    """Return the positions of training examples in each epoch [1 E N], as the released code's.

    PyTorch's global generator is left as it is.

    Args:
        seed: Seed of the run.
        num_train: N.
        epochs: E.
        batch_size: Examples in a batch. The order does not depend on it.
        build: Draws the initial parameters from the global generator; None: nothing is drawn, as
            in the released leave-one-out runs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if build is not None:
            build()
        # PyTorch's own loader, as each pass through it takes two numbers of the global generator:
        # one for its workers, and one that seeds the permutation.
        loader = DataLoader(TensorDataset(torch.arange(num_train)), batch_size, shuffle=True)
        return torch.stack([torch.cat([batch for (batch,) in loader]) for _ in range(epochs)])[None]
