"""MNIST3: margins without a class, without near-duplicates, and without as many random images."""

import numpy as np
import torch
import xarray as xr
from torch import Tensor

import bayestda as tda
from bayestda.experiments.samples import margins
from bayestda.model.examples import Data

CLUSTER, NUM_RANDOM = 4, 3


def make(num_runs: int) -> xr.Dataset:
    """Return samples before and after every removal, predicted and retrained."""
    train, queries = margins.images()
    groups = {**classes(train), **clusters(train), **at_random(len(train))}
    removed_GN = np.stack(list(groups.values()))
    posterior = margins.trained(train, range(num_runs))
    retrained = margins.without(posterior, train, queries, removed_GN).rename(member="group")
    shifts = margins.shifts(posterior, train, queries)
    return xr.Dataset({
        "measured": tda.measure(posterior, margins.OBJECTIVE, queries),
        "shift": tda.group_scores(shifts, removed_GN),
        "retrained": retrained,
        "members": (("group", "train"), removed_GN),
    }).assign_coords(group=list(groups), train_label=("train", train.y.numpy()))  # fmt: skip


def classes(train: Data) -> dict[str, np.ndarray]:
    """Return each class as a group."""
    label = train.y.numpy()
    return {f"class {c}": label == c for c in np.unique(label)}


def clusters(train: Data) -> dict[str, np.ndarray]:
    """Return, of each class, the image that is nearest to its nearest neighbours, and these."""
    distance_NN, label = torch.cdist(*[train.x.flatten(1)] * 2), train.y
    found = {}
    for c in label.unique().tolist():
        members = (label == c).nonzero()[:, 0]
        nearest = distance_NN[members][:, members].topk(CLUSTER, largest=False)
        first = int(nearest.values.sum(1).argmin())
        found[f"near-duplicates of class {c}"] = _mask(members[nearest.indices[first]], len(train))
    return found


def at_random(num_train: int) -> dict[str, np.ndarray]:
    """Return random groups of a cluster's size."""
    rng = np.random.default_rng(0)
    each = [rng.choice(num_train, CLUSTER, replace=False) for _ in range(NUM_RANDOM)]
    return {f"random {i}": _mask(torch.from_numpy(m), num_train) for i, m in enumerate(each)}


def _mask(members: Tensor, num_train: int) -> np.ndarray:
    mask = np.zeros(num_train, dtype=bool)
    mask[members.numpy()] = True
    return mask


SETTINGS = {**margins.SETTINGS, "cluster": CLUSTER, "random": NUM_RANDOM}
data = margins.split
