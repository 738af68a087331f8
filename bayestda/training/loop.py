"""Train many copies of one network that differ in start, order of the data, or example weights.

Deep ensembles, leave-one-out and group removal, further training and single training steps are all
this computation; only the :class:`Members` differ. All copies go through the same training loop.
On a GPU they run stacked (``torch.func.vmap``, or batched products for perceptrons). On a CPU
perceptrons run stacked; other networks run one after the other with channels-last convolutions,
which is faster there.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bayestda.model.dropout import dropout_masks, set_mode
from bayestda.model.examples import EVALUATION_BATCH, Data, Examples, blocks
from bayestda.model.inputs import rows_of
from bayestda.model.objective import Objective
from bayestda.model.precision import matmul_precision
from bayestda.training.members import Members
from bayestda.training.recipe import Recipe
from bayestda.training.stacking import Copies, copies_of, require_stacking, stacks


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
        network: The architecture; it is copied, and its parameters do not matter.
        objective: The objective with the per-example loss.
        data: Training examples, on the device to train on.
        recipe: Hyperparameters; the loss of a batch is (1/B) Σ weight · loss.
        members: Differences between the copies.
        chunk: Number of members trained together; changes the speed and the rounding alone.
        tf32: Whether to allow TensorFloat-32 products on a GPU. Changes the answer slightly.

    Yields:
        The members of a chunk, as a slice, and their parameters after the kept epochs [C R P].

    Raises:
        UserError: Copies of the network cannot be stacked, and ``chunk`` is not 1.
    """
    if chunk > 1:
        require_stacking(network, objective, data, shared=members.shared)
    copies = copies_of(network, objective, data, stacked=chunk > 1)
    per_epoch = -(-members.num_ordered // recipe.batch_size)
    kept_steps = {epoch * per_epoch for epoch in recipe.kept_epochs}
    for chosen, padded in chunks(members, chunk):
        training = enumerate(run(copies, objective, data, recipe, padded, tf32=tf32))
        checkpoints = [copies.vector() for step, _ in training if step in kept_steps]
        yield chosen, torch.stack(checkpoints)[:, : chosen.stop - chosen.start]


def chunks(members: Members, size: int) -> Iterator[tuple[slice, Members]]:
    """Yield the members, ``size`` at a time, with the slice that they are.

    The last chunk is filled up with copies of its last member. Kernels, and so rounding, depend on
    the number of members, which is the same for all chunks in this way.
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
    """Return the outputs of all members on all examples [R M K], in evaluation mode.

    Args:
        network: The architecture; it is copied.
        objective: The objective that calls it.
        theta_RP: Parameters of the members.
        data: Examples, on the network's device or read batch by batch.
        stacked: Whether to evaluate all members at once.
    """
    return _evaluate(network, objective, theta_RP, data, stacked, lambda output, _: output)


def losses(
    network: nn.Module,
    objective: Objective,
    theta_RP: Tensor,
    data: Examples,
    *,
    stacked: bool = False,
) -> Tensor:
    """Return the measurement (by default the loss) of every member on every example [R M].

    Networks are in evaluation mode. The forward pass has the network's precision, the measurement
    is taken in float64. Arguments are those of :func:`output`.
    """
    return _evaluate(network, objective, theta_RP, data, stacked, partial(_measure, objective))


def current_losses(copies: Copies, objective: Objective, data: Examples) -> Tensor:
    """Return :func:`losses` [R M] of copies as they are in the middle of a run."""
    return _map_outputs(copies, data, partial(_measure, objective))


def accuracy(copies: Copies, data: Examples) -> float:
    """Return the first copy's share of examples whose largest output is their class."""
    is_right = _map_outputs(copies, data, lambda output_RBK, y_B: output_RBK.argmax(-1) == y_B)
    return float(is_right[0].double().mean())


def _measure(objective: Objective, output_RBK: Tensor, y_B: Tensor) -> Tensor:
    return torch.stack([objective.measure(output_BK, y_B) for output_BK in output_RBK.double()])


def _evaluate(
    network: nn.Module,
    objective: Objective,
    theta_RP: Tensor,
    data: Examples,
    stacked: bool,
    function: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    # Some networks cannot be stacked: their members are evaluated one after the other.
    stacked = stacked and stacks(network, objective, data)
    copies = copies_of(network, objective, data, stacked=stacked)
    results = []
    for group_RP in [theta_RP] if stacked else theta_RP.split(1):
        copies.start(group_RP)
        results.append(_map_outputs(copies, data, function))
    return torch.cat(results)


def _map_outputs(
    copies: Copies, data: Examples, function: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Values [R M ...] of a function of outputs [R B K] and targets, batch by batch."""
    copies.network.eval()
    size = EVALUATION_BATCH[copies.leaves()[0].is_cuda]
    with torch.no_grad(), matmul_precision(tf32=False):
        pieces = [function(copies(rows_of(b.x, None)), b.y) for b in blocks(data, size)]
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
    """Train members together, and yield the copies before the first step and after each step.

    The caller may read or evaluate the copies before it asks for the next step.

    Args:
        copies: Copies of the network, which are trained in place.
        objective, data, recipe, tf32: The same as in :func:`train`.
        members: Members of one chunk.
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
            # Anew in each step, as the caller may have evaluated the copies in between.
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
    """Sum over members of the batch's weighted mean loss and their extra examples' losses."""
    size, positions = batch.shape[1], batch
    if members.extra is not None:
        # Extra examples join the batch, so that one forward pass serves both.
        positions = torch.cat([batch.expand(len(members), -1), members.extra], dim=1)
    loss_RB = _losses(objective, copies(rows_of(data.x, positions)), data.y[positions])
    weight_RB = members.weight.gather(1, batch.expand(len(members), -1))
    # Members share no parameters: the gradient of the sum is each one's own gradient.
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
    # The formula, with its 1e-6, of torch.nn.utils.clip_grad_norm_.
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
