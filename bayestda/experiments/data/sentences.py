"""SST-2: sentences of film reviews, and whether they are favourable (GLUE; Socher et al. 2013).

The sentences do not come with the project: ``data/prepare.py --task sst2`` takes them from the hub
or from a folder. They are stored in the order of the alphabet, so that an example's number does not
depend on the source. Importing this file does not import torch; :func:`load` does.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.data.split import Split
from bayestda.experiments.data.subsets import first_shuffled
from bayestda.files import atomic

if TYPE_CHECKING:
    from torch import Tensor


SIZES = {"train": 67349, "validation": 872}  # rows of GLUE's files
HUB = "nyu-mll/glue"
MEND = (
    "make it with `python data/prepare.py --task sst2 --source hub`, or with --source FOLDER of "
    "GLUE's train.parquet and validation.parquet"
)
Tokens = Callable[[list[str]], dict[str, "Tensor"]]  # sentences [N] -> tensors [N T] by name


def load(
    tokens: Tokens, num_train: int | None = None, num_test: int | None = None, device: str = "cpu"
) -> Split:
    """Tokenise the first sentences of a fixed shuffle of each split.

    Args:
        tokens: Function that makes the network's inputs.
        num_train, num_test: Numbers of sentences of each split; None: all.
        device: Device of the tensors.

    Returns:
        Tokens [N T], each split padded to its longest sentence. Test is GLUE's validation split.

    Raises:
        UserError: A file is missing or damaged, or holds fewer sentences.
    """
    import torch

    from bayestda.model.examples import Data

    digest, splits = hashlib.sha256(), {}
    counts = {"train": num_train, "validation": num_test}
    for split, count in counts.items():
        path = paths.sentences(split)
        if not path.exists():
            raise UserError(f"the sentences of task sst2 are missing ({path}): {MEND}")
        rows = read(path)
        rows = rows.iloc[first_shuffled(len(rows), count, f"{split} sentences of sst2")]
        x = {name: value.to(device) for name, value in tokens(list(rows["sentence"])).items()}
        label = rows["label"].to_numpy("<i8")
        splits[split] = Data(x, torch.tensor(label, device=device), rows.index.to_numpy())
        digest.update(repr(list(rows["sentence"])).encode() + label.tobytes())
        for name, value in x.items():
            digest.update(name.encode() + value.cpu().numpy().astype("<i8").tobytes())
    return Split(splits["train"], splits["validation"], digest.hexdigest()[:16])


def read(path: Path) -> pd.DataFrame:
    """Read the columns sentence and label of a parquet file, in its order.

    Raises:
        UserError: It is damaged, or has other columns or labels.
    """
    try:
        rows = pd.read_parquet(path, columns=["sentence", "label"])
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} has no sentences and labels ({reason}): {MEND}") from error
    return _checked(rows, str(path))


def adopt(source: str) -> Path:
    """Take over GLUE's sentences.

    Args:
        source: ``hub``, or a folder with train.parquet and validation.parquet.

    Returns:
        The task's folder.

    Raises:
        UserError: The source cannot be read, or holds other sentences; nothing is written then.
    """
    found = {split: _from_source(source, split) for split in SIZES}
    for split, rows in found.items():
        if len(rows) != SIZES[split]:
            raise UserError(
                f"--source {source} has {len(rows)} {split} sentences, GLUE's SST-2 has "
                f"{SIZES[split]}: name a complete copy, or --source hub"
            )
    folder = paths.root() / "data" / "sst2"
    for split, rows in found.items():
        own = rows.assign(sentence=rows["sentence"].str.strip())
        own = own.sort_values(["sentence", "label"], ignore_index=True)
        atomic.write_whole(folder / f"{split}.parquet", own.to_parquet)
    return folder


def _from_source(source: str, split: str) -> pd.DataFrame:
    if source != "hub":
        folder = paths.local_folder(source)
        if folder is None:
            raise UserError(f"there is no folder {source}: {MEND}")
        file = folder / f"{split}.parquet"
        if not file.exists():
            raise UserError(f"there is no {file}: {MEND}")
        return read(file)
    try:
        import datasets

        rows = datasets.load_dataset(HUB, "sst2", split=split).to_pandas()
    except ImportError as error:
        raise UserError("--source hub needs `pip install datasets`, or name a folder") from error
    except Exception as error:  # datasets, huggingface_hub and its client each raise their own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(
            f"the hub's data set {HUB} cannot be fetched ({reason}): mend the connection and try "
            "again, or name a folder with train.parquet and validation.parquet by --source"
        ) from error
    return _checked(rows[["sentence", "label"]], f"the hub's data set {HUB}")


def _checked(rows: pd.DataFrame, where: str) -> pd.DataFrame:
    there = len(rows) and {"sentence", "label"} <= set(rows)
    whole = there and rows["sentence"].map(lambda text: isinstance(text, str)).all()
    if not whole or not np.isin(rows["label"], (0, 1)).all():
        raise UserError(f"{where} needs sentences with a label of 0 or 1 each: {MEND}")
    return rows
