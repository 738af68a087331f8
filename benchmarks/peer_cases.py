"""The two problems that every side of the peers' benchmark is given, and how they are handed on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

import bayestda as tda
from bayestda.experiments.data import subsets
from bayestda.experiments.grid import Experiment
from bayestda.experiments.networks.cnn import cnn2
from bayestda.experiments.tasks import task

CLASSES = 10
SEED = 42
Examples = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """A trained network, its training examples and the test examples to be scored.

    Attributes:
        name: of the case.
        network: at its trained parameters, in evaluation mode.
        train, test: (x, y).
    """

    name: str
    network: nn.Module
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    def first(self, columns: int) -> "Case":
        """With the first test examples only."""
        x_M, y_M = self.test
        return replace(self, test=(x_M[:columns], y_M[:columns]))

    def double(self) -> "Case":
        """The same in float64."""
        twin = tda.Posterior.of_networks({0: [self.network]}).network(0, 0).double()
        (x_N, y_N), (x_M, y_M) = self.train, self.test
        return Case(self.name, twin, (x_N.double(), y_N), (x_M.double(), y_M))


def digits_mlp() -> Case:
    """scikit-learn's digits: 64-32-10, 150 training and 500 test examples."""
    images, digits = load_digits(return_X_y=True)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(SEED))[:650]
    x, y = torch.tensor(images / 16).float()[order], torch.tensor(digits)[order]
    recipe = tda.Recipe(epochs=60, batch_size=30, lr=3e-3, keep=1)
    return _trained("digits MLP", (x[:150], y[:150]), (x[150:], y[150:]), recipe)


def mnist3_cnn2() -> Case:
    """CNN2 on MNIST3 with 50 per class, the paper's recipe: 150 training and 900 test images."""
    experiment = Experiment("cnn2", "mnist3", 50)
    split = subsets.load(experiment)
    sides = ((part.x, part.y) for part in (split.train, split.test))
    return _trained("MNIST3 CNN2", *sides, experiment.recipe)


BUILDERS: dict[str, Callable[[], Case]] = {"digits MLP": digits_mlp, "MNIST3 CNN2": mnist3_cnn2}
_EMPTY = {"digits MLP": lambda: _mlp(), "MNIST3 CNN2": lambda: cnn2(task("mnist3"))}


def write(case: Case, path: Path) -> None:
    """Parameters and examples as one safetensors file."""
    parts = zip(("x_train", "y_train", "x_test", "y_test"), (*case.train, *case.test), strict=True)
    state = {f"network.{key}": value for key, value in case.network.state_dict().items()}
    save_file({**state, **{name: value.clone() for name, value in parts}}, path)


def read(name: str, path: Path) -> Case:
    """What :func:`write` wrote of the case of that name."""
    stored, network = load_file(path), _EMPTY[name]()
    prefix = "network."
    network.load_state_dict(
        {key.removeprefix(prefix): v for key, v in stored.items() if key.startswith(prefix)}
    )
    train, test = ((stored[f"x_{side}"], stored[f"y_{side}"]) for side in ("train", "test"))
    return Case(name, network.eval(), train, test)


def _mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, CLASSES))


def _trained(name: str, train: Examples, test: Examples, recipe: tda.Recipe) -> Case:
    posterior = tda.train_posterior(_EMPTY[name], tda.Classification(), train, recipe, seeds=[SEED])
    return Case(name, posterior.network(SEED, -1).eval(), train, test)
