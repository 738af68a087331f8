"""Match the names of a checkpoint's tensors with those of a network.

DataParallel, ``torch.compile`` and Lightning put a prefix before every name, wrappers of one's own
as well. peft's files lack the name of the adapter, which its networks have.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from torch import Tensor

WRAPPERS = ("module", "_orig_mod")  # of DataParallel and torch.compile, at any depth
ADAPTER = ("default", "modules_to_save")  # components that peft's files leave out


def renamed(sample: Mapping[str, Tensor], names: Collection[str]) -> Mapping[str, Tensor]:
    """Return a checkpoint's tensors under a network's names, or as they are if none fits.

    Args:
        sample: Tensors by the checkpoint's names.
        names: Names of the network's tensors.
    """
    known = set(names)
    if sample.keys() <= known:
        return sample
    for rule in _rules(list(sample), known):
        found = {rule(name): value for name, value in sample.items()}
        if len(found) == len(sample) and found.keys() <= known:
            return found
    return sample


def _rules(sample: list[str], names: set[str]) -> Iterable[Callable[[str], str]]:
    """Yield functions from a checkpoint's name to what may be the network's."""
    yield _unwrapped
    for prefix in _common_prefixes(sample):
        yield partial(_without, prefix)
    for outer in _common_prefixes(sorted(names)):  # the checkpoint is of what a wrapper holds
        yield outer.__add__
    by_short: dict[str, list[str]] = {}
    for name in names:
        by_short.setdefault(_short(name), []).append(name)
    single = {short: found[0] for short, found in by_short.items() if len(found) == 1}
    yield partial(_of_adapter, single)


def _common_prefixes(names: list[str]) -> Iterable[str]:
    """Yield what all names begin with: one component, two, and so on."""
    parted = [name.split(".")[:-1] for name in names]
    for depth in range(1, min(map(len, parted), default=0) + 1):
        if len({tuple(parts[:depth]) for parts in parted}) > 1:
            return
        yield ".".join(parted[0][:depth]) + "."


def _without(prefix: str, name: str) -> str:
    return _unwrapped(name.removeprefix(prefix))


def _of_adapter(single: Mapping[str, str], name: str) -> str:
    return single.get(_short(name), name)


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _short(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in ADAPTER)
