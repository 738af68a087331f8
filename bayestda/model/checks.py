"""Refuse what people give by mistake, each in a sentence that names the mend."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bayestda.errors import UserError

_NEEDED = ("output", "loss")  # of an objective, for any method


def check_objective(objective: Any) -> None:
    """Refuse what is no objective: a class, a loss function, a loss module.

    Raises:
        UserError: As said above.
    """
    name = getattr(objective, "__name__", type(objective).__name__)
    if isinstance(objective, type):
        raise UserError(f"the objective {name} is a class: make one of it, {name}()")
    missing = [part for part in _NEEDED if not callable(getattr(objective, part, None))]
    if missing:
        raise UserError(
            f"{name} is no objective, as it has no {' and no '.join(missing)}(): give "
            "tda.Classification(), tda.Regression(), or tda.FromLoss(loss) with a loss [B] of "
            "outputs and targets"
        )


def check_build(build: Any) -> None:
    """Refuse what is no function that makes a network.

    Raises:
        UserError: As said above.
    """
    if isinstance(build, nn.Module):
        raise UserError(
            "build is a network, and every run needs one of its own: give a function that makes "
            "it, such as lambda: nn.Linear(3, 2), or tda.Posterior.of_networks for trained ones"
        )
    if not callable(build):
        raise UserError(
            f"build is a {type(build).__name__}: give a function that makes the network"
        )


def check_network(network: Any, where: str = "build()") -> None:
    """Refuse what is no network whose gradients can be taken.

    Args:
        network: What should be one.
        where: Where it comes from, for the message.

    Raises:
        UserError: It is no module, a compiled script, or has parameters that are not yet made.
    """
    if not isinstance(network, nn.Module):
        kind = "a state dict" if isinstance(network, Mapping) else f"a {type(network).__name__}"
        raise UserError(
            f"{where} is {kind} and no torch.nn.Module: "
            + (
                "load it into a network by network.load_state_dict(...) first"
                if isinstance(network, Mapping)
                else "only PyTorch networks have the gradients that are needed"
            )
        )
    if isinstance(network, torch.jit.ScriptModule):
        raise UserError(
            f"{where} is a TorchScript module, whose layers cannot be seen: give the nn.Module "
            "that it was made of"
        )
    lazy = [n for n, p in network.named_parameters() if isinstance(p, nn.UninitializedParameter)]
    if lazy:
        raise UserError(
            f"{where} has parameters that are made by its first call ({', '.join(lazy[:3])}): "
            "call it once on a batch, and then hand it over"
        )


def check_networks(networks: Any) -> None:
    """Refuse what is no mapping from seeds to a network for each checkpoint.

    Raises:
        UserError: As said above.
    """
    form = "give {seed: [network, ...]}, one network per checkpoint, such as {0: [network]}"
    if not isinstance(networks, Mapping):
        raise UserError(f"networks are a {type(networks).__name__}: {form}")
    if isinstance(networks, nn.ModuleDict):
        raise UserError(f"networks are a ModuleDict: {form}")
    for seed, run in networks.items():
        if isinstance(run, nn.Module) or not isinstance(run, Sequence):
            raise UserError(f"the networks of seed {seed!r} are a {type(run).__name__}: {form}")
        for place, network in enumerate(run):
            check_network(network, f"network {place} of seed {seed!r}")


def listed_seeds(seeds: Any) -> tuple[int, ...]:
    """Return seeds as a tuple.

    Raises:
        UserError: They are no whole numbers, none, or one is there twice.
    """
    if isinstance(seeds, int):
        raise UserError(f"seeds={seeds} is one number: give the seeds, such as range({seeds})")
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise UserError(f"seeds are a {type(seeds).__name__}: give whole numbers, as range(10)")
    found = tuple(seeds)
    if not found:
        raise UserError("seeds are empty: give at least one whole number, better ten: range(10)")
    if any(int(seed) != seed for seed in found) or len(set(found)) < len(found):
        raise UserError(f"seeds {list(found)} must be different whole numbers, as range(10)")
    return tuple(int(seed) for seed in found)


def check_attributes(thing: Any, name: str, needed: Iterable[str], mend: str) -> None:
    """Refuse a thing that lacks attributes.

    Args:
        thing: What was given.
        name: What it should be, for the message.
        needed: The attributes.
        mend: What to give.

    Raises:
        UserError: One is missing.
    """
    if isinstance(thing, type) or not all(hasattr(thing, attribute) for attribute in needed):
        kind = thing.__name__ if isinstance(thing, type) else type(thing).__name__
        raise UserError(f"{kind} is no {name}: {mend}")


def check_posterior(posterior: Any) -> None:
    """Refuse what is no posterior, such as a network.

    Raises:
        UserError: As said above.
    """
    check_attributes(
        posterior, "posterior", ("network", "seeds", "checkpoints"),
        "give tda.Posterior.of_networks({0: [network]}), better with several seeds, or what "
        "tda.train_posterior returns",
    )  # fmt: skip


def check_recipe(recipe: Any) -> None:
    """Refuse what is no recipe.

    Raises:
        UserError: As said above.
    """
    check_attributes(
        recipe, "recipe", ("epochs", "batch_size", "lr"), "give tda.Recipe(epochs=20, ...)"
    )
