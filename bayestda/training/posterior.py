"""Sample the posterior over a model's parameters: several runs (seeds), several checkpoints each.

Runs are trained here (:func:`train_posterior`), or come from checkpoints or networks of a user.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import cast

import torch
from torch import nn

from bayestda.errors import UserError
from bayestda.model.checkpoint_files import check_checkpoint
from bayestda.model.checks import (
    check_build,
    check_network,
    check_networks,
    check_objective,
    check_recipe,
    listed_seeds,
)
from bayestda.model.dropout import draws_masks
from bayestda.model.examples import Data, examples
from bayestda.model.fitting import fitted
from bayestda.model.fixed import differing
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters, copied, exchange, first_trained, private_copy
from bayestda.model.state_dicts import State, check_what_files_lack, frozen_names, load, snapshot
from bayestda.training.history import Training
from bayestda.training.loop import train
from bayestda.training.members import data_order
from bayestda.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Posterior:
    """Hold samples of θ, which are loaded one at a time.

    Make one with :meth:`from_checkpoints`, :meth:`of_networks` or :func:`train_posterior`.

    Attributes:
        build: A function that makes the network; samples replace the values of its parameters.
        samples: One file, or tensors by name, for each checkpoint of a run, by seed.
        checkpoints: Names of the checkpoints, such as epochs.
        learning_rates: Learning rate η at each checkpoint, if known (for TracIn).
        horizons: Sum Σ_t η_t up to each checkpoint, if known (for damping="horizon").
        training: Record of the training, if the library trained the samples itself.
        templates: A network for each sample, by seed, with everything that a state dict may lack:
            frozen weights that were drawn, buffers, plain attributes; None: those of ``build``.
    """

    build: Callable[[], nn.Module]
    samples: Mapping[int, Sequence[State | Path]]
    checkpoints: tuple[int, ...]
    learning_rates: tuple[float, ...] | None = None
    horizons: tuple[float, ...] | None = None
    training: Training | None = None
    templates: Mapping[int, Sequence[nn.Module]] | None = None

    @classmethod
    def from_checkpoints(
        cls,
        build: Callable[[], nn.Module],
        files: Mapping[int, Sequence[str | Path]],
        *,
        checkpoints: Sequence[int] | None = None,
        learning_rates: Sequence[float] | None = None,
        horizons: Sequence[float] | None = None,
    ) -> "Posterior":
        """Make a posterior of safetensors that hold a ``state_dict`` or its trained part.

        A checkpoint is a file, an index of shards, or a folder of ``save_pretrained`` or Trainer,
        also with an adapter of peft. Prefixes that wrappers put before all names are taken off.

        Args:
            build: A function that makes the network; frozen parameters that a file lacks keep
                the values it gives them.
            files: One file or folder per checkpoint, in the order of training, by seed.
            checkpoints: Names of the checkpoints; default 0, 1, ...
            learning_rates: Learning rate η at each checkpoint.
            horizons: Sum Σ_t η_t from the start of training to each checkpoint.

        Raises:
            UserError: There are no files, seeds have unequal numbers of them, or a file is of
                another kind or missing.
        """
        check_build(build)
        if not isinstance(files, Mapping) or any(isinstance(p, str | Path) for p in files.values()):
            raise UserError(
                "files must be {seed: [path, ...]}, one path per checkpoint, such as "
                '{0: ["seed_0/model.safetensors"]}'
            )
        samples = {seed: [Path(file) for file in paths] for seed, paths in files.items()}
        for path in (path for paths in samples.values() for path in paths):
            check_checkpoint(path)
        return cls._of(build, samples, checkpoints, learning_rates, horizons)

    @classmethod
    def of_networks(
        cls, networks: Mapping[int, Sequence[nn.Module]], **recorded: Sequence[float]
    ) -> "Posterior":
        """Make a posterior of networks in memory, which are copied and never changed.

        Args:
            networks: One network per checkpoint, all of one architecture, by seed.
            recorded: ``checkpoints``, ``learning_rates`` and ``horizons`` as in
                :meth:`from_checkpoints`.

        Raises:
            UserError: There are no networks, or seeds have unequal numbers of them.
        """
        check_networks(networks)
        first = next((run[0] for run in networks.values() if run), None)
        if first is None:
            raise UserError("a posterior needs at least one network")
        template = copied(first)
        samples = {
            seed: [snapshot(network, template) for network in run] for seed, run in networks.items()
        }
        # Most networks differ from the first in nothing but what their samples hold.
        templates = {
            seed: [copied(one) if _hides(one, template) else template for one in run]
            for seed, run in networks.items()
        }
        posterior = cls._of(
            lambda: private_copy(template), samples, recorded.get("checkpoints"),
            recorded.get("learning_rates"), recorded.get("horizons"),
        )  # fmt: skip
        return replace(posterior, templates=templates)

    @classmethod
    def _of(cls, build, samples, checkpoints, learning_rates, horizons) -> "Posterior":
        counts = {len(checkpoints) for checkpoints in samples.values()}
        if len(counts) != 1 or counts == {0}:
            raise UserError(
                f"every seed needs the same number of checkpoints, at least one; there are "
                f"{sorted(counts) or 'no seeds'}"
            )
        (count,) = counts
        named = {"checkpoints": checkpoints, "learning_rates": learning_rates, "horizons": horizons}
        for name, values in named.items():
            if values is not None and len(values) != count:
                raise UserError(f"{name} has {len(values)} values for {count} checkpoints")
        return cls(
            build, samples, tuple(range(count)) if checkpoints is None else tuple(checkpoints),
            None if learning_rates is None else tuple(map(float, learning_rates)),
            None if horizons is None else tuple(map(float, horizons)),
        )  # fmt: skip

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the names of the runs."""
        return tuple(self.samples)

    def template(self, seed: int, checkpoint: int = 0) -> nn.Module:
        """Return the network of one sample with values of no meaning for its parameters θ.

        Args:
            seed: Name of the run.
            checkpoint: Number of the checkpoint in the run, counted from 0.
        """
        if self.templates is None:
            return private_copy(self.build())
        return private_copy(self.templates[seed][checkpoint])

    def network(self, seed: int, checkpoint: int, parameters: str | None = None) -> nn.Module:
        """Return the network of one sample, in evaluation mode.

        Its trainable parameters and buffers are copies. Frozen weights are shared with other
        samples, or with the network that ``build`` made, where they are equal.

        Args:
            seed: Name of the run.
            checkpoint: Number of the checkpoint in the run, counted from 0.
            parameters: Patterns such as ``"head.*|*.bias"`` of the parameters to attribute
                through; all others are frozen. None: the parameters that require a gradient.

        Raises:
            UserError: The sample belongs to another network, is damaged, or is not finite.
        """
        network, sample = self.template(seed, checkpoint), self.samples[seed][checkpoint]
        # A sample may lack what was frozen in training, and what is frozen from here on.
        optional = frozen_names(network)
        if self.templates is not None:
            optional |= {name for name, _ in network.named_buffers()}
        if parameters is not None:
            select(network, parameters)
        where = f"seed {seed}, checkpoint {checkpoint}"
        held = load(network, sample, optional | frozen_names(network), where)
        if isinstance(sample, Path) and (seed, checkpoint) == (self.seeds[0], 0):
            check_what_files_lack(self.build, network, held, sample)
        return network.eval()


def train_posterior(
    build: Callable[[], nn.Module],
    objective: Objective,
    data: object,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    same_init: bool = False,
    chunk: int = 1,
) -> Posterior:
    """Train a deep ensemble, and keep the last checkpoints of every run.

    Dropout of any kind (:mod:`bayestda.model.dropout`) is on, with masks that the seed and the
    step determine.

    Args:
        build: A function that makes a network with random parameters; the generator is seeded
            before each call.
        objective: The objective with the per-example loss.
        data: Training examples, in a form of :func:`bayestda.model.examples.examples`.
        recipe: Hyperparameters; ``keep`` is the number of checkpoints.
        seeds: Names of the runs, each of which seeds an initialisation and an order of the data.
        same_init: Whether all runs start at the first seed's initialisation, so that only the
            order differs.
        chunk: Number of runs trained together, stacked. Hundreds are many times faster for small
            networks, also on a CPU. Changes the speed and the rounding.

    Raises:
        UserError: The network has batch norm, whose statistics are no parameters.
    """
    seeds = listed_seeds(seeds)
    check_build(build)
    check_objective(objective)
    check_recipe(recipe)
    template = _seeded(build, seeds[0])
    check_network(template)
    _refuse_batch_norm(template)
    layout, sample = Parameters(template), first_trained(template)
    starts = {seed: seeds[0] if same_init else seed for seed in seeds}
    built = {seed: _seeded(build, start) for seed, start in starts.items()}
    initial = {seed: layout.read(network) for seed, network in built.items()}
    # Layers that are frozen at what build draws are a run's own, as its initialisation is.
    apart = any(differing(network, template) for network in built.values())
    own = built if apart else dict.fromkeys(seeds, template)
    train_data = in_memory(data, objective, template)
    orders = {seed: data_order(seed, len(train_data), recipe.epochs) for seed in seeds}
    dropout = draws_masks(template, objective, train_data.take(slice(recipe.batch_size)))
    training = Training(recipe, initial, orders, dropout, apart)
    samples: dict[int, list[State]] = {}
    weight_1N = torch.ones(1, len(train_data), dtype=sample.dtype)
    chunk = 1 if training.one_by_one else min(chunk, len(seeds))
    for group, members in training.together(weight_1N, sample.device, chunk):
        # All members of the group are one chunk, so that the first chunk is all there is.
        network = own[group[0]]
        _, theta_CRP = next(train(network, objective, train_data, recipe, members, chunk=chunk))
        for row, seed in enumerate(group):
            samples[seed] = [layout.split(theta_P) for theta_P in theta_CRP[:, row]]
    rates, horizons = recipe.recorded(len(train_data))
    return Posterior(
        lambda: private_copy(template), samples, tuple(recipe.kept_epochs), rates, horizons,
        training, {seed: [network] * recipe.keep for seed, network in own.items()},
    )  # fmt: skip


def in_memory(
    data: object, objective: Objective, network: nn.Module, *, measured: bool = False
) -> Data:
    """Return all examples of a user's data as tensors, as the network and the objective take them.

    Args:
        data: Examples, in a form of :func:`bayestda.model.examples.examples`.
        objective, network, measured: As in :func:`bayestda.model.fitting.fitted`.

    Raises:
        UserError: Targets do not fit the objective.
    """
    parameter = first_trained(network)
    held = examples(data, parameter.device, parameter.dtype).take(slice(None))
    return cast(Data, fitted(held, objective, network, measured=measured))


def select(network: nn.Module, patterns: str) -> None:
    """Make the parameters that match one of the patterns trainable, and freeze all others.

    Args:
        network: The network, which is changed in place.
        patterns: Patterns of :mod:`fnmatch`, separated by ``|``.

    Raises:
        UserError: No parameter matches.
    """
    for name, parameter in list(network.named_parameters()):
        if not any(fnmatch(name, pattern) for pattern in patterns.split("|")):
            parameter.requires_grad_(False)
        elif not parameter.requires_grad:
            # Other networks may share a frozen parameter: a trainable copy takes its place.
            exchange(network, parameter, nn.Parameter(parameter.detach().clone()))
    if not any(p.requires_grad for p in network.parameters()):
        names = [name for name, _ in network.named_parameters()]
        raise UserError(
            f"parameters={patterns!r} matches none of {', '.join(names[:8])}"
            f"{', ...' if len(names) > 8 else ''}"
        )


def _hides(network: nn.Module, template: nn.Module) -> bool:
    """Whether a network differs from a template in something that no state dict holds."""
    return not set(differing(network, template)) <= set(template.state_dict())


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        if torch.accelerator.is_available():
            torch.manual_seed(seed)
        else:
            # torch.manual_seed would also note the seed for GPUs not yet in use, which takes
            # longer than building a small MLP.
            torch.default_generator.manual_seed(seed)
        return build()


def _refuse_batch_norm(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"{name!r} is batch norm, whose running statistics are not among the parameters "
                "that are trained here: use group norm, or train the network yourself and give its "
                "checkpoints to Posterior.from_checkpoints"
            )
