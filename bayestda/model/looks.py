"""Look at data, network and loss before anything is scored, measured or retrained.

Per-example gradients and losses mean something only if an example alone gives what it gives in a
batch, and twice the same. What cannot be right is refused.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bayestda.errors import UserError, out_of_memory
from bayestda.model.calls import outputs, tried_outputs
from bayestda.model.dropout import generator_states
from bayestda.model.examples import Data, Examples
from bayestda.model.inputs import rows_of
from bayestda.model.objective import Measurement, Objective
from bayestda.model.precision import matmul_precision
from bayestda.model.readings import FEW, check_steady, spread

AGAIN = 8  # calls of a network that draws random numbers in evaluation mode
LOSS_ROUNDING = 1e-5  # of the largest loss: a user's loss may be taken in float32


@torch.no_grad()
@matmul_precision(tf32=False)
def look(
    network: nn.Module, objective: Objective, train: Examples | None, test: Examples | None
) -> None:
    """Refuse data, networks and losses for which an example alone is not what it is in a batch.

    Args:
        network: The network, in evaluation mode.
        objective: The objective, which gives outputs, loss and measurement.
        train: Training examples, whose losses are looked at; None: there are none.
        test: Test examples, whose measurements are looked at; None: there are none.

    Raises:
        UserError: Data change from reading to reading, outputs are drawn at random, or outputs,
            losses or measurements of an example depend on others.
    """
    check_statistics(network)
    sides = (("training", train, objective.loss, "loss"),
             ("test", test, objective.measure, "measurement"))  # fmt: skip
    with torch.random.fork_rng(_gpus(network)):
        for side, data, function, name in sides:
            if data is None:
                continue
            check_steady(data, side)
            few = data.take(spread(len(data), FEW))
            if data is train or train is None:  # the network is looked at once
                output_BK = _looked_outputs(network, objective, few)
            else:
                output_BK = outputs(network, objective, few.x).double()
            _check_function(function, name, output_BK, few)


def round_trip(count: int) -> Tensor:
    """Return positions 0, 1, ..., 0: whoever sorts these rows, by whatever, moves some of them."""
    return torch.cat([torch.arange(count), torch.zeros(1, dtype=torch.long)])


def _looked_outputs(network: nn.Module, objective: Objective, few: Data) -> Tensor:
    """Return outputs of a few examples, in float64, after a look at them alone and twice."""
    rounding = _Rounding(network)
    alone = {i: rounding.output(objective, few, [i]) for i in sorted({0, len(few) - 1})}
    moved = generator_states(few.y.device)
    again = rounding.output(objective, few, [0])
    draws = any(not a.equal(b) for a, b in zip(moved, generator_states(few.y.device), strict=True))
    repeated = [again, *(rounding.output(objective, few, [0]) for _ in range(AGAIN * draws))]
    order = round_trip(len(few))
    output_BK = rounding.output(objective, few, order)
    if any(outputs_differ(alone[0], other, rounding.epsilon) for other in repeated):
        raise UserError(
            "the network gives other outputs when it is called again with the same inputs: it "
            "draws at random in evaluation mode, too, as F.dropout without training=self.training "
            "or torch.randn in forward() do; let it draw only if self.training"
        )
    check_alone(alone, output_BK, order, rounding.epsilon)
    return output_BK[: len(few)].double()


def check_statistics(network: nn.Module) -> None:
    """Refuse batch norm that takes the statistics of the batch in evaluation mode, too."""
    for name, module in network.named_modules():
        if getattr(module, "track_running_stats", True) is False and "BatchNorm" in str(
            type(module)
        ):
            raise UserError(
                f"batch norm {name!r} has no running statistics, so that the output of one example "
                "depends on the others: use track_running_stats=True, or group norm"
            )


def check_alone(
    alone: Mapping[int, Tensor], output_BK: Tensor, order: Tensor, epsilon: float
) -> None:
    """Refuse outputs in a batch that are not those of its examples alone.

    Args:
        alone, output_BK, order, epsilon: As of :func:`is_alone`.

    Raises:
        UserError: They differ by more than rounding.
    """
    if not is_alone(alone, output_BK, order, epsilon):
        raise UserError(
            "the network's output for an example depends on the other examples of its batch, so "
            "that an example has no output and no gradient of its own: use fixed statistics or "
            "layer norm in place of the batch's, and nothing else that mixes examples in "
            "evaluation mode"
        )


def is_alone(alone: Mapping[int, Tensor], output_BK: Tensor, order: Tensor, epsilon: float) -> bool:
    """Return whether outputs in a batch are those of its examples alone.

    Args:
        alone: Outputs [1 K] of some examples alone.
        output_BK: Outputs in a batch.
        order: Which example each row of the batch is [B].
        epsilon: The rounding of one number.
    """
    if len(output_BK) != len(order):
        return False
    by_example = ((one, output_BK[(order == i).to(one.device)]) for i, one in alone.items())
    return not any(
        outputs_differ(one.expand_as(rows_nK), rows_nK, epsilon, output_BK)
        for one, rows_nK in by_example
    )


def outputs_differ(one: Tensor, two: Tensor, epsilon: float, like: Tensor | None = None) -> bool:
    """Return whether outputs differ by more than rounding.

    Args:
        one, two: Outputs of one shape.
        epsilon: The rounding of one number.
        like: Outputs whose size is that of rounding; default: ``one``.
    """
    if one.shape != two.shape:
        return True
    size = (one if like is None else like).double().nan_to_num().abs().max()
    gap = (one.double() - two.double()).nan_to_num(posinf=0, neginf=0).abs().max()
    return bool(gap > 3 * epsilon**0.5 * size)  # √ε as for rows: rounding stays far below


class _Rounding:
    """Calls of a network, and the coarsest type of number within, as bfloat16 under autocast."""

    def __init__(self, network: nn.Module):
        # Networks in float64 have parts in float32, as the norms of most language models.
        self.network, self.epsilon = network, torch.finfo(torch.float32).eps

    def output(self, objective: Objective, few: Data, order: Any) -> Tensor:
        """Return outputs [B K] of some examples."""
        hooks = [m.register_forward_hook(self._see) for m in self.network.modules()]
        try:
            output_BK = tried_outputs(
                self.network, objective, rows_of(few.x, torch.as_tensor(order))
            )
        finally:
            for hook in hooks:
                hook.remove()
        self._see(None, None, output_BK)
        return output_BK

    def _see(self, _module: Any, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            self.epsilon = max(self.epsilon, torch.finfo(output.dtype).eps)


def _check_function(function: Measurement, name: str, output_BK: Tensor, few: Data) -> None:
    """Refuse a loss or a measurement of an example that depends on other examples."""
    together_B = function(output_BK, few.y)
    if together_B.shape != (len(few),):  # the objective refuses it where it is used
        return
    alone_B = torch.cat(
        [
            _value_alone(function, name, output_BK[i : i + 1], few.y[i : i + 1]).reshape(-1)[:1]
            for i in range(len(few))
        ]
    )
    gap_B = (alone_B - together_B).nan_to_num(posinf=0, neginf=0).abs()
    worst = int(gap_B.argmax())
    if gap_B[worst] > LOSS_ROUNDING * together_B.nan_to_num().abs().max():
        shapes = f"outputs {list(output_BK.shape)} and targets {list(few.y.shape)}"
        raise UserError(
            f"the {name} of an example depends on the other examples of its batch ({shapes}; "
            f"{float(together_B[worst]):.4g} in it, {float(alone_B[worst]):.4g} alone): give one "
            "that needs this example only; check shapes that broadcast, normalisation over the "
            "batch, and contrastive or ranking losses"
        )


def _value_alone(function: Measurement, name: str, output_1K: Tensor, y_1: Tensor) -> Tensor:
    try:
        return function(output_1K, y_1)
    except Exception as error:
        if out_of_memory(error):  # it was taken of several together just before
            raise
        raise UserError(
            f"the {name} cannot be taken of an example alone ({str(error).splitlines()[0]}): give "
            "one that needs this example only"
        ) from error


def _gpus(network: nn.Module) -> list[torch.device]:
    parameter = next(network.parameters(), None)
    return [parameter.device] if parameter is not None and parameter.is_cuda else []
