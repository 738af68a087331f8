"""Every loader, given damaged files: it reads, or refuses in one sentence; nothing else happens."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from damage import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_folders import random_images, write_file
from reader import Reader
from safetensors.torch import save

from bayestda.experiments import checkpoints, grid, paths, results
from bayestda.experiments.data import prepare, sentences, tables
from bayestda.experiments.data.images import read_images, read_index_list
from bayestda.experiments.grid import Experiment
from bayestda.model.parameters import Parameters

TOTAL = int(os.environ.get("FUZZ", "2000"))  # inputs of all loaders together; make fuzz: 100,000
SAME = "FUZZ" not in os.environ  # the same inputs each time; make fuzz: those of its seed
EXPERIMENT = Experiment("cnn2", "mnist3", 10)


def read_index_list_checked(path: Path) -> None:
    numbers = read_index_list(path)
    assert numbers.dtype == np.int64 and len(set(numbers.tolist())) == len(numbers) > 0
    assert numbers.min() >= 0


def read_seeds(path: Path) -> None:
    paths.SEEDS = path
    found = grid.seeds()
    assert len(set(found)) == len(found) >= 2 and all(0 <= seed < 2**32 for seed in found)


def read_checkpoint(path: Path) -> None:
    paths.checkpoint = lambda *_: path
    run, layout = EXPERIMENT.runs()[0], Parameters(torch.nn.Linear(3, 2))
    theta_CP = checkpoints.load(EXPERIMENT, run, layout, {"n": 1}, "the command")
    assert theta_CP.isfinite().all()


def read_scores(path: Path) -> None:
    dataset = results._open_checked(path, results.Command(EXPERIMENT, "loo"))
    assert dataset["score"].dtype.kind == "f"
    json.loads(dataset.attrs["settings"])


def read_image_file(path: Path) -> None:
    images = read_images(path)
    assert len(images.pixels) == len(images.label) == len(images.index)


def read_concrete(path: Path) -> None:
    assert len(tables.read_rows("concrete", path)) == tables.TABLES["concrete"].num_rows


def read_table(path: Path) -> None:
    from bayestda.experiments.figures import read_tables

    paths.table = lambda *_: path
    assert len(read_tables.read_table(EXPERIMENT, "correlations"))


def read_json(path: Path) -> None:
    assert isinstance(prepare._read_json(path), dict)


def scores_file(tmp_path: Path) -> bytes:
    score = np.random.default_rng(0).normal(size=(1, 2, 4, 5)).astype("f4")
    dataset = xr.Dataset(
        {"score": (("seed", "checkpoint", "train", "test"), score)},
        {"seed": [446], "init": ("seed", [446]), "checkpoint": [1, 2], "train": [3, 4, 5, 9]},
    )
    results.write_scores(tmp_path / "valid", dataset, {"method": "loo"})
    return (tmp_path / "valid").read_bytes()


def checkpoint_file(_: Path) -> bytes:
    network = torch.nn.Linear(3, 2)
    theta_P = Parameters(network).read(network)
    metadata = {"settings": json.dumps({"n": 1}), "theta": checkpoints.fingerprint(theta_P)}
    return save(network.state_dict(), metadata)


def image_file(tmp_path: Path) -> bytes:
    pixels, label = random_images((28, 28), 3, 1, seed=0)
    write_file(tmp_path / "valid", pixels, label, np.arange(len(label)))
    return (tmp_path / "valid").read_bytes()


def sentence_file(_: Path) -> bytes:
    rows = pd.DataFrame({"sentence": ["a film", "no film"], "label": [1, 0]})
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    return buffer.getvalue()


TABLE = b"method,scope,quantity,value\nloo,all,split_half,0.5\nats,all,x,1e-3\n"
ROWS = paths.REPOSITORY / "data" / "concrete" / "rows.csv"
LOADERS = {  # what reads, makes a valid file, and takes which share of the inputs
    "index_list": (read_index_list_checked, lambda _: b"3\n17\n4\n250\n9\n", 0.2),
    "seeds": (read_seeds, lambda _: paths.SEEDS.read_bytes(), 0.2),
    "json": (read_json, lambda _: b'{"seed": 7, "num_per_class": [3, 5], "train": {}}', 0.1),
    "checkpoint": (read_checkpoint, checkpoint_file, 0.1),
    "scores": (read_scores, scores_file, 0.15),
    "images": (read_image_file, image_file, 0.1),
    "sentences": (sentences.read, sentence_file, 0.05),
    "rows": (read_concrete, lambda _: ROWS.read_bytes(), 0.05),
    "table": (read_table, lambda _: TABLE, 0.05),
}


@pytest.fixture
def readers(tmp_path):
    """Makes readers, and ends their processes."""
    made = []

    def reader(read):
        made.append(Reader(read, tmp_path / "file"))
        return made[-1]

    yield reader
    for own in made:
        own.close()


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader_reads_or_refuses(name, tmp_path, readers):
    read, make, share = LOADERS[name]
    valid, reader = make(tmp_path), readers(read)
    assert reader.outcome(valid) == "read"

    @settings(
        max_examples=int(TOTAL * share), deadline=None, database=None, derandomize=SAME,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(damaged(valid))
    def every_input(content):
        found = reader.outcome(content)
        assert found in ("read", "refused"), found

    every_input()
    print(f"\n{name}: {dict(reader.counts)}")
    assert reader.counts["refused"] > reader.counts.total() / 20
    assert reader.counts.total() >= TOTAL * share / 2


@settings(max_examples=max(50, TOTAL // 200), deadline=None, derandomize=True)
@given(content=st.binary(min_size=1, max_size=300), bit=st.integers(0, 10**6))
def test_no_flipped_bit_of_a_sealed_file_goes_unnoticed(content, bit, tmp_path_factory):
    from bayestda.files import checksums

    path = tmp_path_factory.mktemp("seal") / "file"
    sealed = bytearray(checksums.sealed(content))
    path.write_bytes(sealed)
    checksums.check(path)
    place = bit % (8 * len(sealed))
    sealed[place // 8] ^= 1 << place % 8
    path.write_bytes(sealed)
    with pytest.raises(ValueError, match="checksum|bytes"):
        checksums.check(path)
