"""One side of one_pass.py in a process of its own: scores, and seconds whenever it is asked.

Started by one_pass.py, with the checkout to import the package from on PYTHONPATH. It reads the
problem from a file, and for each line on its input it scores once and prints its seconds.
"""

import json
import sys
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

DAMPINGS = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)  # those of the stage
CNN2 = {"bayestda": "bayestda.experiments.networks.cnn", "tda": "tda.networks.cnn"}


def scoring(package: str, path: Path) -> Callable[[], dict[str, np.ndarray]]:
    """Return a function that computes the scores of a problem once.

    Args:
        package: ``bayestda`` scores by one call, ``tda``, the package before it, by eight.
        path: File that one_pass.py has written.
    """
    library, stored = import_module(package), load_file(path)
    train, test = ((stored[f"x_{side}"], stored[f"y_{side}"]) for side in ("train", "test"))
    posterior = library.Posterior.of_networks({0: networks(package, stored)})
    asked = (posterior, library.Classification(), train, test)
    return lambda: (one_call if package == "bayestda" else eight_calls)(library, asked)


def one_call(library: Any, asked: tuple) -> dict[str, np.ndarray]:
    """Score by both methods and all dampings at once."""
    methods = ["grad_dot", "influence"]
    scores = library.attribute(*asked, method=methods, damping=list(DAMPINGS))
    return {name: scores[name].values for name in methods}


def eight_calls(library: Any, asked: tuple) -> dict[str, np.ndarray]:
    """Score by Grad-Dot, then by the influence function with each damping."""
    grad_dot = library.attribute(*asked, method="grad_dot").values
    influence = [library.attribute(*asked, damping=damping).values for damping in DAMPINGS]
    return {"grad_dot": grad_dot, "influence": np.stack(influence)}


def networks(package: str, stored: dict[str, torch.Tensor]) -> list[nn.Module]:
    """Return the checkpoints of a problem."""
    found = []
    for number in range(int(stored["checkpoints"])):
        prefix = f"{number}."
        state = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
        network = _cnn2(package) if "images" in stored else _mlp(state)
        network.load_state_dict(state)
        found.append(network.eval())
    return found


def _cnn2(package: str) -> nn.Module:
    task: Any = "mnist3"
    if package == "bayestda":
        task = import_module("bayestda.experiments.tasks").task(task)
    return import_module(CNN2[package]).cnn2(task)


def _mlp(state: dict[str, torch.Tensor]) -> nn.Module:
    (hidden, inputs), (outputs, _) = state["0.weight"].shape, state["2.weight"].shape
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def main() -> None:
    """Score as often as a line comes in; write the first scores beside the problem."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("package", choices=tuple(CNN2))
    parser.add_argument("problem", type=Path)
    flags = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    work = scoring(flags.package, flags.problem)
    np.savez(flags.problem.with_suffix(f".{flags.package}.npz"), **work())
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        measured = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
