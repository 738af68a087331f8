"""The ensemble engine: train many copies of one network that differ in start, order or weights.

Deep ensembles, leave-one-out and group removal, further training and single training steps are all
the same computation; only the :class:`Members` differ. On a GPU the copies run stacked
(``torch.func.vmap``), on a CPU one after the other with channels-last convolutions, which is the
faster way there. Both go through the same training loop.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from tda.examples import Data, Examples, rows_of
from tda.experiments import Recipe
from tda.objective import Objective, output_at
from tda.parameters import Parameters, channels_last_copy, private_copy

EVALUATION_BATCH = {False: 30, True: 100}  # images; on a CPU what stays in the cache; only speed


@dataclass(frozen=True)
class Members:
    """Copies to train. A leading 1 means: shared by all members.

    Attributes:
        initial: parameters at the start [R P] or [1 P].
        order: positions of training examples, per epoch [R E N] or [1 E N].
        weight: weight of every example in the loss [R N]; 0 removes it and nothing else, as the
            mean still divides by the size of the batch.
        dropout_seed: draws the masks of all steps, the same for all members; None: no dropout.
    """

    initial: Tensor
    order: Tensor
    weight: Tensor
    dropout_seed: int | None = None

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, members: Tensor) -> "Members":
        initial, order, weight = (
            tensor if len(tensor) == 1 < len(self) else tensor[members]
            for tensor in (self.initial, self.order, self.weight)
        )
        return Members(initial, order, weight, self.dropout_seed)


def data_order(seed: int, num_train: int, epochs: int) -> Tensor:
    """A fresh permutation of the training examples for each epoch [1 E N]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(num_train, generator=generator) for _ in range(epochs)])[
        None
    ]


def train(
    network: nn.Module,
    objective: Objective,
    data: Data,
    recipe: Recipe,
    members: Members,
    *,
    chunk: int = 1,
    tf32: bool = False,
) -> Iterator[tuple[slice, Tensor]]:
    """Train all members, ``chunk`` at a time.

    Args:
        network: the architecture; it is copied, its own parameters do not matter.
        objective: gives the per-example loss.
        data: training examples, on the device to train on.
        recipe: hyperparameters; the loss of a batch is (1/B) Σ weight · loss.
        members: what differs between copies.
        chunk: members trained together; changes the speed and the rounding, not the method.
        tf32: allow TensorFloat-32 matrix products on a GPU. Changes the answer slightly.

    Yields:
        The members of a chunk and their parameters after the kept epochs [C R P].
    """
    copies = (_Stacked if chunk > 1 else _Single)(network, objective)
    for start in range(0, len(members), chunk):
        chosen = slice(start, min(start + chunk, len(members)))
        # The last chunk is filled up: kernels, and so rounding, depend on how many members it has.
        padded = torch.arange(start, start + chunk).clamp(max=len(members) - 1)
        with matmul_precision(tf32):
            theta_CRP = _train_chunk(copies, objective, data, recipe, members[padded])
        yield chosen, theta_CRP[:, : chosen.stop - chosen.start]


def output(
    network: nn.Module,
    objective: Objective,
    theta_RP: Tensor,
    data: Examples,
    *,
    stacked: bool = False,
) -> Tensor:
    """Outputs of all members on all examples [R M K], in evaluation mode."""
    return _evaluated(network, objective, theta_RP, data, stacked, lambda output, _: output)


def losses(
    network: nn.Module,
    objective: Objective,
    theta_RP: Tensor,
    data: Examples,
    *,
    stacked: bool = False,
) -> Tensor:
    """Measurement (the loss, if no other is asked for) of every member on every example [R M].

    In evaluation mode; the forward pass in the network's precision, the measurement in float64.
    """

    def measured(output_RBK: Tensor, y_B: Tensor) -> Tensor:
        wide_RBK = output_RBK.double()
        return torch.stack([objective.measure(output_BK, y_B) for output_BK in wide_RBK])

    return _evaluated(network, objective, theta_RP, data, stacked, measured)


def _evaluated(
    network: nn.Module,
    objective: Objective,
    theta_RP: Tensor,
    data: Examples,
    stacked: bool,
    read: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    copies = (_Stacked if stacked else _Single)(network, objective)
    copies.network.eval()
    block = EVALUATION_BATCH[theta_RP.is_cuda]
    results = []
    with torch.no_grad(), matmul_precision(tf32=False):
        for group_RP in [theta_RP] if stacked else theta_RP.split(1):
            copies.start(group_RP)
            pieces = [read(copies(rows_of(b.x, None)), b.y) for b in blocks(data, block)]
            results.append(torch.cat(pieces, dim=1))
    return torch.cat(results)


def blocks(data: Examples, size: int) -> Iterator[Data]:
    """The examples, some at a time."""
    for start in range(0, len(data), size):
        yield data.take(slice(start, min(start + size, len(data))))


@contextmanager
def matmul_precision(tf32: bool) -> Iterator[None]:
    """Full float32 products and convolutions, or TensorFloat-32 on a GPU that has it."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _train_chunk(
    copies: "_Single | _Stacked", objective: Objective, data: Data, recipe: Recipe, members: Members
) -> Tensor:
    copies.start(members.initial, len(members))
    copies.network.train(members.dropout_seed is not None)
    optimizer = _optimizer(copies.leaves(), recipe)
    rates = recipe.learning_rates(members.order.shape[-1])
    step, kept = 0, []
    for epoch in range(recipe.epochs):
        for batch in members.order[:, epoch].split(recipe.batch_size, dim=1):
            for group in optimizer.param_groups:
                group["lr"] = rates[step]
            optimizer.zero_grad()
            with dropout_masks(members.dropout_seed, step, data.y.device):
                output_RBK = copies(rows_of(data.x, batch))
            loss_RB = _losses(objective, output_RBK, data.y[batch])
            weight_RB = members.weight.gather(1, batch.expand(len(members), -1))
            (weight_RB * loss_RB).sum().div(batch.shape[1]).backward()
            optimizer.step()
            step += 1
        if epoch >= recipe.epochs - recipe.keep:
            kept.append(copies.vector())
    return torch.stack(kept)


def _losses(objective: Objective, output_RBK: Tensor, y: Tensor) -> Tensor:
    """Losses [R B] for targets [1 B ...], shared by the members, or [R B ...]."""
    if len(y) == 1:
        return objective.loss(output_RBK, y[0])
    return vmap(objective.loss)(output_RBK, y)


@contextmanager
def dropout_masks(seed: int | None, step: int, device: torch.device) -> Iterator[None]:
    """Masks depend on the seed and the step alone: a run without z_j meets those of its base run.

    The global generators are as before afterwards.
    """
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed((seed * 1_000_003 + step) % 2**63)
        yield


def _optimizer(leaves: list[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[recipe.optimizer]
    own = {"momentum": recipe.momentum} if recipe.momentum else {}
    return kind(leaves, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True, **own)


class _Single:
    """One copy at a time: the network itself, convolutions in channels-last layout."""

    def __init__(self, network: nn.Module, objective: Objective):
        self.network, self.objective = channels_last_copy(network), objective
        self.layout = Parameters(network)

    def start(self, theta_1P: Tensor, _members: int = 1) -> None:
        self.layout.write(self.network, theta_1P[0])

    def leaves(self) -> list[Tensor]:
        return [self.network.get_parameter(name) for name in self.layout.shapes]

    def __call__(self, x_1B: Any) -> Tensor:
        return self.objective.output(self.network, rows_of(x_1B, 0))[None]

    def vector(self) -> Tensor:
        return self.layout.read(self.network)[None]


class _Stacked:
    """R copies at once; inputs with a leading 1 are shared by all of them."""

    def __init__(self, network: nn.Module, objective: Objective):
        self.network, self.objective = private_copy(network), objective
        self.layout = Parameters(network)

    def start(self, theta: Tensor, members: int = 1) -> None:
        expanded = theta.expand(max(members, len(theta)), -1)
        self.named = {
            name: value.clone().requires_grad_()
            for name, value in self.layout.split(expanded).items()
        }

    def leaves(self) -> list[Tensor]:
        return list(self.named.values())

    def __call__(self, x: Any) -> Tensor:
        shared = len(next(iter(x.values())) if isinstance(x, Mapping) else x) == 1
        forward = vmap(
            partial(output_at, self.network, self.objective),
            in_dims=(0, None if shared else 0),
            randomness="same",  # of dropout
        )
        return forward(self.named, rows_of(x, 0) if shared else x)

    def vector(self) -> Tensor:
        return self.layout.join({name: value.detach() for name, value in self.named.items()})
