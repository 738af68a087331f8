"""Call a user's network: the one place that does."""

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from bayestda.errors import UserError, out_of_memory
from bayestda.model.inputs import copied, named_leaves
from bayestda.model.objective import Objective


def outputs(network: nn.Module, objective: Objective, x: Any) -> Tensor:
    """Return the outputs [B K] of a network on a batch, which it may not change.

    The network gets a copy. One that normalises its inputs in place, or takes entries out of a
    mapping, would otherwise change the user's data, and what every later call sees.

    Args:
        network: Any module, as it is.
        objective: The objective that calls it.
        x: A batch of inputs.
    """
    return objective.output(network, copied(x))


def tried_outputs(network: nn.Module, objective: Objective, x: Any) -> Tensor:
    """Return :func:`outputs` of a first call, whose errors say what the network was given.

    Raises:
        UserError: The call fails, as of inputs of another width or type.
    """
    try:
        return outputs(network, objective, x)
    except UserError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        if out_of_memory(error):
            raise
        given = ", ".join(
            f"{name} {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
            for name, value in named_leaves(x)
        )
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the network cannot be called on {given} ({reason}): give inputs of the shape and "
            "type that it is called with in training, or an Objective whose output() calls it"
        ) from error


class AsCalled(nn.Module):
    """Wrap a network so that calling the module gives the objective's outputs.

    Args:
        network: Any module.
        objective: The objective that calls it.
    """

    def __init__(self, network: nn.Module, objective: Objective):
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, x: Any) -> Tensor:
        """Return outputs [B K]."""
        return outputs(self.network, self.objective, x)


def output_at(network: nn.Module, objective: Objective, named: dict[str, Tensor], x: Any) -> Tensor:
    """Return outputs [B K] of the network with some of its parameters replaced.

    Args:
        network: Any module; it is not changed.
        objective: The objective that calls it.
        named: Values of the replaced parameters, by name.
        x: A batch of inputs.
    """
    module = AsCalled(network, objective)
    renamed = {f"network.{name}": value for name, value in named.items()}
    return functional_call(module, renamed, (x,), tie_weights=True)
