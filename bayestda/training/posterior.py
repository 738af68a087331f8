"""Samples of the posterior over parameters of anyone's model: runs (seeds) x checkpoints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.dropout import draws_masks
from bayestda.model.examples import Data, examples
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters, copied, exchange, private_copy
from bayestda.model.state_dicts import State, frozen_names, load, snapshot
from bayestda.training.loop import train
from bayestda.training.members import Members, data_order
from bayestda.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Training:
    """How samples came about: what retraining and replay need.

    Attributes:
        recipe: hyperparameters.
        initial: θ at the start [P], by seed.
        order: positions of training examples [1 E N], by seed.
        dropout: whether the network has dropout (:mod:`bayestda.model.dropout`), whose masks then
            follow from the seed.
    """

    recipe: Recipe
    initial: Mapping[int, Tensor]
    order: Mapping[int, Tensor]
    dropout: bool = False

    def members(self, seed: int, weight_RN: Tensor, device: torch.device) -> Members:
        """Members that repeat the run of a seed with other weights of the examples."""
        initial_1P, order = self.initial[seed][None].to(device), self.order[seed].to(device)
        return Members(initial_1P, order, weight_RN.to(device), seed if self.dropout else None)

    def together(
        self, weight_RN: Tensor, device: torch.device, chunk: int
    ) -> Iterator[tuple[tuple[int, ...], Members]]:
        """Members of all seeds, seed by seed, as many seeds together as ``chunk`` has room for.

        Seeds with dropout go one by one, as a seed's masks are shared by its members alone.
        """
        seeds = tuple(self.initial)
        count = 1 if self.dropout else max(1, chunk // len(weight_RN))
        for start in range(0, len(seeds), count):
            chosen = seeds[start : start + count]
            own = [self.members(seed, weight_RN, device) for seed in chosen]
            yield chosen, own[0] if len(own) == 1 else _joined(own)


def _joined(parts: Sequence[Members]) -> Members:
    """Members of several seeds, as one."""
    return Members(
        torch.cat([own.initial.expand(len(own), -1) for own in parts]),
        torch.cat([own.order.expand(len(own), -1, -1) for own in parts]),
        torch.cat([own.weight for own in parts]),
    )


@dataclass(frozen=True, eq=False)
class Posterior:
    """Samples of θ, loaded one at a time.

    Make one with :meth:`from_checkpoints`, :meth:`of_networks` or :func:`train_posterior`.

    Attributes:
        build: makes the network, with any values of the parameters that samples hold.
        samples: by seed, for each checkpoint a file or its named tensors.
        checkpoints: names of the checkpoints, such as epochs.
        learning_rates: η of the training at each checkpoint, where known (for TracIn).
        horizons: Σ_t η_t up to each checkpoint, where known (for damping="horizon").
        training: where the library has trained the samples itself.
    """

    build: Callable[[], nn.Module]
    samples: Mapping[int, Sequence[State | Path]]
    checkpoints: tuple[int, ...]
    learning_rates: tuple[float, ...] | None = None
    horizons: tuple[float, ...] | None = None
    training: Training | None = None

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
        """Samples in safetensors files of named parameters (a ``state_dict``, or its trained part).

        Args:
            build: makes the network; frozen parameters that files lack keep its values.
            files: by seed, one file per checkpoint, in the order of training.
            checkpoints: names of the checkpoints; default 0, 1, ...
            learning_rates: η of the training at each checkpoint.
            horizons: Σ_t η_t from the start of training to each checkpoint.

        Raises:
            UserError: no files, unequal numbers of them, or a file of another kind or missing.
        """
        samples = {seed: [Path(file) for file in own] for seed, own in files.items()}
        for path in (path for own in samples.values() for path in own):
            if path.suffix != ".safetensors":
                raise UserError(
                    f"{path} is no .safetensors file; pickles are not loaded: write it with "
                    "safetensors.torch.save_file(network.state_dict(), path)"
                )
            if not path.exists():
                raise UserError(f"{path} does not exist: give the path of a checkpoint")
        return cls._of(build, samples, checkpoints, learning_rates, horizons)

    @classmethod
    def of_networks(
        cls, networks: Mapping[int, Sequence[nn.Module]], **recorded: Sequence[float]
    ) -> "Posterior":
        """Samples that are networks in memory: by seed, one per checkpoint.

        They are copied: the networks may be trained on, and are never written.

        Args:
            networks: of one architecture.
            recorded: ``checkpoints``, ``learning_rates``, ``horizons`` of :meth:`from_checkpoints`.
        """
        first = next((own[0] for own in networks.values() if own), None)
        if first is None:
            raise UserError("a posterior needs at least one network")
        template = copied(first)
        samples = {
            seed: [snapshot(network, template) for network in own] for seed, own in networks.items()
        }
        return cls._of(
            lambda: private_copy(template), samples, recorded.get("checkpoints"),
            recorded.get("learning_rates"), recorded.get("horizons"),
        )  # fmt: skip

    @classmethod
    def _of(cls, build, samples, checkpoints, learning_rates, horizons) -> "Posterior":
        counts = {len(own) for own in samples.values()}
        if len(counts) != 1 or counts == {0}:
            raise UserError(
                f"every seed needs the same number of checkpoints, at least one; there are "
                f"{sorted(counts) or 'no seeds'}"
            )
        (count,) = counts
        known = {"checkpoints": checkpoints, "learning_rates": learning_rates, "horizons": horizons}
        for name, values in known.items():
            if values is not None and len(values) != count:
                raise UserError(f"{name} has {len(values)} values for {count} checkpoints")
        return cls(
            build, samples, tuple(range(count)) if checkpoints is None else tuple(checkpoints),
            None if learning_rates is None else tuple(map(float, learning_rates)),
            None if horizons is None else tuple(map(float, horizons)),
        )  # fmt: skip

    @property
    def seeds(self) -> tuple[int, ...]:
        """Names of the runs."""
        return tuple(self.samples)

    def network(self, seed: int, checkpoint: int, parameters: str | None = None) -> nn.Module:
        """The network of one sample, in evaluation mode.

        Its trainable parameters and buffers are its own; frozen weights may be those of other
        samples, or of what ``build`` made, where they are equal.

        Args:
            seed: of the run.
            checkpoint: its place in the run, counted from 0.
            parameters: patterns such as ``"head.*|*.bias"``; what they match is attributed
                through, everything else is frozen. None: what requires a gradient.

        Raises:
            UserError: the sample is of another network, or damaged, or not finite.
        """
        network = private_copy(self.build())
        optional = frozen_names(network)
        if parameters is not None:
            select(network, parameters)
        where = f"seed {seed}, checkpoint {checkpoint}"
        load(network, self.samples[seed][checkpoint], optional | frozen_names(network), where)
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
    """Train a deep ensemble and keep the last checkpoints of every run.

    Dropout of any kind (:mod:`bayestda.model.dropout`) is on, with masks that the seed and the
    step determine.

    Args:
        build: makes a network with random parameters (the generator is seeded before each call).
        objective: gives the loss.
        data: training examples, as :func:`bayestda.model.examples.examples` takes them.
        recipe: hyperparameters; ``keep`` is the number of checkpoints.
        seeds: one run each: initialisation and order of the data.
        same_init: all runs start at the first seed's initialisation; only the order differs.
        chunk: runs trained together, stacked: hundreds are many times faster for small networks,
            also on a CPU. Changes the speed and the rounding.

    Raises:
        UserError: the network has batch norm, whose statistics are no parameters.
    """
    template = _seeded(build, seeds[0])
    _refuse_batch_norm(template)
    layout, sample = Parameters(template), next(template.parameters())
    starts = {seed: seeds[0] if same_init else seed for seed in seeds}
    initial = {seed: layout.read(_seeded(build, start)) for seed, start in starts.items()}
    held = in_memory(data, sample.device, sample.dtype)
    orders = {seed: data_order(seed, len(held), recipe.epochs) for seed in seeds}
    dropout = draws_masks(template, objective, held.take(slice(recipe.batch_size)))
    training = Training(recipe, initial, orders, dropout)
    samples: dict[int, list[State]] = {}
    weight_1N = torch.ones(1, len(held), dtype=sample.dtype)
    chunk = 1 if training.dropout else min(chunk, len(seeds))
    for group, members in training.together(weight_1N, sample.device, chunk):
        _, theta_CRP = next(train(template, objective, held, recipe, members, chunk=chunk))
        for place, seed in enumerate(group):
            samples[seed] = [layout.split(theta_P) for theta_P in theta_CRP[:, place]]
    made = Posterior(lambda: private_copy(template), samples, tuple(recipe.kept_epochs))
    rates, horizons = recipe.recorded(len(held))
    return replace(made, learning_rates=rates, horizons=horizons, training=training)


def in_memory(data: object, device: torch.device, dtype: torch.dtype) -> Data:
    """All examples as tensors."""
    found = examples(data, device, dtype)
    return found.take(slice(None))


def select(network: nn.Module, patterns: str) -> None:
    """Require gradients of the parameters that match one of the patterns, and of no others.

    A frozen parameter may be shared with other networks: it is left as it is, and a copy stands in
    its place.

    Raises:
        UserError: none matches.
    """
    wanted = patterns.split("|")
    for name, parameter in list(network.named_parameters()):
        if not any(fnmatch(name, pattern) for pattern in wanted):
            parameter.requires_grad_(False)
        elif not parameter.requires_grad:
            exchange(network, parameter, nn.Parameter(parameter.detach().clone()))
    if not any(p.requires_grad for p in network.parameters()):
        names = [name for name, _ in network.named_parameters()]
        raise UserError(
            f"parameters={patterns!r} matches none of {', '.join(names[:8])}"
            f"{', ...' if len(names) > 8 else ''}"
        )


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        if torch.accelerator.is_available():
            torch.manual_seed(seed)
        else:  # the same, without the note for a GPU to come, which takes longer than a small MLP
            torch.default_generator.manual_seed(seed)
        return build()


def _refuse_batch_norm(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"{name!r} is batch norm: its running statistics are not among the parameters that "
                "are trained here; use group norm, or train the network yourself and give its "
                "checkpoints to Posterior.from_checkpoints"
            )
