"""The ensemble engine: train many copies of one network that differ in start, order or weights.

Deep ensembles, leave-one-out and group removal, further training and single training steps are all
the same computation; only the :class:`Members` differ. On a GPU the copies run stacked
(``torch.func.vmap``, perceptrons by batched products), on a CPU perceptrons do, too, and other
networks one after the other with channels-last convolutions, which is the faster way there. All go
through the same training loop.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bayestda.model.dropout import dropout_masks, set_mode
from bayestda.model.examples import EVALUATION_BATCH, Data, Examples, blocks, rows_of
from bayestda.model.objective import Objective
from bayestda.model.precision import matmul_precision
from bayestda.training.members import Members
from bayestda.training.recipe import Recipe
from bayestda.training.stacking import Copies, copies_of


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
    copies = copies_of(network, objective, stacked=chunk > 1)
    per_epoch = -(-members.num_ordered // recipe.batch_size)
    kept_steps = {epoch * per_epoch for epoch in recipe.kept_epochs}
    for chosen, padded in chunks(members, chunk):
        visited = enumerate(run(copies, objective, data, recipe, padded, tf32=tf32))
        kept = [copies.vector() for step, _ in visited if step in kept_steps]
        yield chosen, torch.stack(kept)[:, : chosen.stop - chosen.start]


def chunks(members: Members, size: int) -> Iterator[tuple[slice, Members]]:
    """The members, some at a time.

    The last chunk is filled up with its last member: kernels, and so rounding, depend on how many
    there are.
    """
    for start in range(0, len(members), size):
        chosen = slice(start, min(start + size, len(members)))
        padded = torch.arange(start, start + size).clamp(max=len(members) - 1)
        is_full = chosen.stop == start + size
        yield chosen, members[chosen if is_full else padded]


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

    return _evaluated(network, objective, theta_RP, data, stacked, partial(_measured, objective))


def current_losses(copies: Copies, objective: Objective, data: Examples) -> Tensor:
    """:func:`losses` of copies as they are in the middle of a run."""
    return _read(copies, data, partial(_measured, objective))


def accuracy(copies: Copies, data: Examples) -> float:
    """Share of the examples whose largest output is their class, of the first copy."""
    right = _read(copies, data, lambda output_RBK, y_B: output_RBK.argmax(-1) == y_B)
    return float(right[0].double().mean())


def _measured(objective: Objective, output_RBK: Tensor, y_B: Tensor) -> Tensor:
    return torch.stack([objective.measure(output_BK, y_B) for output_BK in output_RBK.double()])


def _evaluated(
    network: nn.Module,
    objective: Objective,
    theta_RP: Tensor,
    data: Examples,
    stacked: bool,
    read: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    copies = copies_of(network, objective, stacked=stacked)
    results = []
    for group_RP in [theta_RP] if stacked else theta_RP.split(1):
        copies.start(group_RP)
        results.append(_read(copies, data, read))
    return torch.cat(results)


def _read(copies: Copies, data: Examples, read: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What ``read`` makes of outputs [R B K] and targets, for all examples [R M ...]."""
    copies.network.eval()
    block = EVALUATION_BATCH[copies.leaves()[0].is_cuda]
    with torch.no_grad(), matmul_precision(tf32=False):
        pieces = [read(copies(rows_of(b.x, None)), b.y) for b in blocks(data, block)]
    return torch.cat(pieces, dim=1)


def run(
    copies: Copies,
    objective: Objective,
    data: Data,
    recipe: Recipe,
    members: Members,
    *,
    tf32: bool = False,
) -> Iterator[Copies]:
    """Train members together; yields the copies before the first step and after each one.

    Whoever asks for the next step may first read or evaluate the copies as they are. Arguments as
    in :func:`train`.
    """
    copies.start(members.initial, len(members))
    leaves = copies.leaves()
    optimizer = _optimizer(leaves, recipe)
    rates = iter(enumerate(recipe.learning_rates(members.num_ordered)))
    yield copies
    for epoch in range(recipe.epochs):
        for batch in members.epoch(epoch).split(recipe.batch_size, dim=1):
            step, rate = next(rates)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            set_mode(copies.network, training=members.dropout_seed is not None)
            with matmul_precision(tf32):
                with dropout_masks(members.dropout_seed, step, data.y.device):
                    loss = _batch_loss(copies, objective, data, members, batch)
                loss.backward()
            if recipe.clip is not None:
                _clip(leaves, len(members), recipe.clip)
            optimizer.step()
            yield copies


def _batch_loss(
    copies: Copies, objective: Objective, data: Data, members: Members, batch: Tensor
) -> Tensor:
    """Σ over members of the weighted mean loss of the batch, and of their extra examples."""
    size, positions = batch.shape[1], batch
    if members.extra is not None:
        positions = torch.cat([batch.expand(len(members), -1), members.extra], dim=1)
    loss_RB = _losses(objective, copies(rows_of(data.x, positions)), data.y[positions])
    weight_RB = members.weight.gather(1, batch.expand(len(members), -1))
    total = (weight_RB * loss_RB[:, :size]).sum().div(size)
    if members.coefficient is not None:
        total = total + (members.coefficient * loss_RB[:, size:]).sum()
    return total


@torch.no_grad()
def _clip(leaves: list[Tensor], members: int, limit: float) -> None:
    """Scale each member's gradient to a norm of at most ``limit``."""
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    if members == 1:
        torch._foreach_mul_(gradients, _clip_factor(torch._foreach_norm(gradients), limit))
        return
    norms = [gradient.flatten(1).norm(dim=1) for gradient in gradients]  # [R] each
    factor_R = _clip_factor(norms, limit)
    for gradient in gradients:
        gradient.mul_(factor_R.view(-1, *[1] * (gradient.ndim - 1)))


def _clip_factor(norms: Sequence[Tensor], limit: float) -> Tensor:
    """As ``torch.nn.utils.clip_grad_norm_``."""
    return (limit / (torch.stack(list(norms)).norm(dim=0) + 1e-6)).clamp(max=1.0)


def _losses(objective: Objective, output_RBK: Tensor, y: Tensor) -> Tensor:
    """Losses [R B] for targets [1 B ...], shared by the members, or [R B ...]."""
    if len(y) == 1:
        return objective.loss(output_RBK, y[0])
    return objective.loss(output_RBK.flatten(0, 1), y.flatten(0, 1)).unflatten(0, y.shape[:2])


def _optimizer(leaves: list[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(leaves, momentum=recipe.momentum, nesterov=recipe.nesterov, **common)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer](
        leaves, **common
    )
