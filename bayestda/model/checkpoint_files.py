"""Read checkpoints as they lie on disk: a safetensors file, shards with an index, a folder.

Folders are those that ``save_pretrained`` and Trainer leave (``checkpoint-500``). Nothing is
unpickled.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bayestda.errors import UserError

INDEX = ".index.json"
# What a folder holds, by precedence: an adapter's folder may hold its base model, too.
IN_FOLDERS = ("adapter_model.safetensors", "model.safetensors", f"model.safetensors{INDEX}")


def check_checkpoint(path: Path) -> None:
    """Refuse a path that holds no checkpoint.

    Raises:
        UserError: It does not exist, or holds pickles alone.
    """
    for file in _files(path):
        if not file.exists():
            raise UserError(f"{file} does not exist: give the path of a checkpoint")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint by name.

    Raises:
        UserError: A file is missing, damaged or of another kind.
    """
    tensors: dict[str, Tensor] = {}
    for file in _files(path):
        try:
            tensors |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file} is damaged or no safetensors file ({error})") from error
    return tensors


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        found = next((path / name for name in IN_FOLDERS if (path / name).exists()), None)
        if found is None:
            raise UserError(
                f"the folder {path} holds none of {', '.join(IN_FOLDERS)}; pickles (.bin, .pt, "
                ".ckpt) are not loaded: save with safetensors, or hand the loaded network to "
                "tda.Posterior.of_networks"
            )
        path = found
    if path.name.endswith(INDEX):
        yield from (path.parent / name for name in _shards(path))
        return
    if path.suffix != ".safetensors":
        raise UserError(
            f"{path} is no .safetensors file and no folder; pickles are not loaded: write it with "
            "safetensors.torch.save_file(network.state_dict(), path)"
        )
    yield path


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is damaged or no index of shards ({error!r})") from error
    outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if outside:
        raise UserError(f"{index} names the shard {outside[0]!r}, which is not in its folder")
    return names
