"""How a run's parts are made and joined, with a stage that costs nothing."""

import os
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from stage_scripts import SMALL, make_subset, run

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.stages import job as jobs
from bayestda.experiments.stages import workers
from bayestda.experiments.stages.job import Job, Part
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.runner import run_stage
from bayestda.experiments.stages.stage import Stage
from bayestda.experiments.stages.systems import Cnn

COUNT = 20
SYSTEM, RUN = Cnn(SMALL), SMALL.runs()[0]
OPTIONS = Options(jobs=1, chunk=8)
FILE = "loo"


class Counting(Stage):
    """Its scores are the size of the chunk that each item was made with."""

    name, unit, stacks = FILE, "item", True

    def __init__(self, wanted=range(COUNT), largest_chunk=8):
        self.wanted, self.largest_chunk = wanted, largest_chunk
        self.made = []

    def outputs(self, _options):
        return (FILE,)

    def settings(self, _context, output):
        return {"method": output}

    def num_items(self, _context):
        return COUNT

    def wanted_items(self, _context):
        return self.wanted

    def part_size(self, context):
        return context.chunk

    def compute(self, _context, items, chunk):
        if chunk > self.largest_chunk and items.start >= 8:
            raise torch.OutOfMemoryError
        self.made += items
        return {FILE: xr.Dataset({"chunk": ("item", [chunk] * len(items))}, {"item": list(items)})}

    def gather(self, _context, parts):
        return xr.concat(parts, dim="item").drop_duplicates("item")


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    make_subset()


def work(stage, **options):
    run_stage(stage, "the command", SYSTEM, [RUN], replace(OPTIONS, **options))
    return stage


def result():
    return results.open_scores(paths.scores(SMALL.name, FILE, RUN.name), "the command")


def parts_folder():
    return paths.part(paths.scores(SMALL.name, FILE, RUN.name), 0, 0).parent


def test_ranges_have_no_gaps_and_a_largest_size():
    assert jobs.ranges([0, 1, 2, 5, 6, 9], 2) == [
        range(2),
        range(2, 3),
        range(5, 7),
        range(9, 10),
    ]
    assert jobs.ranges([], 2) == []


def test_a_full_gpu_half_way_makes_the_whole_run_again_with_half_the_members(capsys):
    work(Counting(largest_chunk=4))
    assert result()["item"].values.tolist() == list(range(COUNT))
    assert set(result()["chunk"].values) == {4}
    assert "falling back to 4 members at a time" in capsys.readouterr().err
    assert not parts_folder().exists()


def test_a_stage_that_stacks_nothing_says_at_once_that_the_gpu_is_full(capsys):
    stage = Counting(largest_chunk=4)
    stage.stacks = False
    with pytest.raises(UserError, match="the GPU has not enough free memory"):
        work(stage)
    assert "falling back" not in capsys.readouterr().err


class Choosy(Stage):
    """Each method is an output, and some refuse."""

    name, chosen_by = "choosy", "methods"

    def __init__(self, *refusing):
        self.refusing, self.made = refusing, []

    def outputs(self, options):
        return tuple(options["methods"])

    def settings(self, _context, output):
        return {"method": output}

    def compute(self, context, _items, _chunk):
        return {output: self._result(output) for output in context.options["methods"]}

    def _result(self, output):
        self.made.append(output)
        return UserError("too hard") if output in self.refusing else xr.Dataset({"x": 1.0})


def test_outputs_are_written_once_though_another_is_refused(capsys):
    stage, methods = Choosy("trak"), ("grad_dot", "trak", "datainf")
    with pytest.raises(UserError) as refused:
        work(stage, method=(("methods", methods),))
    assert str(refused.value) == (
        "trak cannot be computed: too hard; the rest is done: ask for it alone by "
        "`--methods grad_dot datainf`"
    )
    assert stage.made == list(methods)  # and not again
    files = [paths.scores(SMALL.name, name, RUN.name) for name in methods]
    assert [file.exists() for file in files] == [True, False, True]
    capsys.readouterr()
    work(Choosy("trak"), method=(("methods", ("grad_dot", "datainf")),))
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(UserError, match="^trak cannot be computed: too hard$"):
        work(Choosy("trak"), method=(("methods", ("trak",)),))


def test_jobs_make_what_no_other_job_has_made(capsys):
    first = work(Counting(range(10)), chunk=4)
    assert "10 items are left to other jobs" in capsys.readouterr().out
    second = work(Counting(range(5, COUNT)), chunk=4)
    assert (first.made, second.made) == (list(range(10)), list(range(10, COUNT)))
    assert result()["item"].values.tolist() == list(range(COUNT))
    assert not parts_folder().exists()


def test_parts_that_overlap_are_joined_once():
    work(Counting(range(10)), chunk=4)
    job = Job(Counting(), "the command", SYSTEM, replace(OPTIONS, chunk=4))
    for items in (range(5, 12), range(9, COUNT)):
        job.compute(Part(RUN, items))
    job.join(RUN)
    np.testing.assert_array_equal(result()["item"], np.arange(COUNT))


def test_jobs_with_other_chunks_are_not_joined_and_the_whole_command_mends_it(capsys):
    work(Counting(range(10)), chunk=2)
    work(Counting(range(10, COUNT)), chunk=5)
    said = capsys.readouterr().err
    assert re.search(r"10 items used a different --chunk.* --chunk \(here 5\)", said)
    assert not paths.scores(SMALL.name, FILE, RUN.name).exists()
    again = work(Counting(), chunk=5)
    assert again.made == list(range(10))
    assert set(result()["chunk"].values) == {5}


def test_a_damaged_part_is_made_again_by_the_job_that_wants_it(capsys):
    work(Counting(range(10)), chunk=5)
    damaged = parts_folder() / "0-5.nc"
    damaged.write_bytes(damaged.read_bytes()[:100])
    second = work(Counting(range(10, COUNT)), chunk=5)
    assert second.made == list(range(10, COUNT))
    assert "5 items are left to other jobs" in capsys.readouterr().out
    assert work(Counting(range(10)), chunk=5).made == list(range(5))
    assert result()["item"].values.tolist() == list(range(COUNT))


def test_a_job_reads_no_part_of_others_before_the_last(monkeypatch):
    read = []
    opened = results.open_scores
    monkeypatch.setattr(
        results,
        "open_scores",
        lambda path, made_by: read.append(path.name) or opened(path, made_by),
    )
    for first in range(0, COUNT - 4, 4):
        work(Counting(range(first, first + 4)), chunk=4)
    assert read == []
    work(Counting(range(COUNT - 4, COUNT)), chunk=4)
    assert {name: read.count(name) for name in read} == {
        f"{first}-{first + 4}.nc": 1 for first in range(0, COUNT, 4)
    }


def test_a_job_whose_items_another_has_joined_meanwhile_has_nothing_to_complain_of(monkeypatch):
    """As when a node is lost, but its job goes on beside the one that was sent after it."""
    job = Job(Counting(), "the command", SYSTEM, OPTIONS)
    write = results.write_scores

    def overtaken(path, *_arguments, **_provenance):
        monkeypatch.setattr(results, "write_scores", write)
        work(Counting())
        raise UserError(f"cannot write {path}")

    monkeypatch.setattr(results, "write_scores", overtaken)
    job.compute(Part(RUN, range(8)))
    assert result()["item"].values.tolist() == list(range(COUNT))


def test_a_part_that_cannot_be_written_is_an_error_while_the_run_is_unfinished(monkeypatch):
    def full(path, *_arguments, **_provenance):
        raise UserError(f"cannot write {path}")

    monkeypatch.setattr(results, "write_scores", full)
    with pytest.raises(UserError, match="cannot write"):
        work(Counting())


def test_a_part_that_comes_after_the_run_was_joined_is_removed():
    work(Counting())
    job = Job(Counting(), "the command", SYSTEM, OPTIONS)
    job.compute(Part(RUN, range(4)))
    assert parts_folder().exists()
    job.join(RUN)
    assert not parts_folder().exists()
    assert len(result()["item"]) == COUNT


def test_wrong_numbers_are_an_error_also_when_all_is_done(capsys):
    for name in ("train_cnn", "loo"):
        assert run(name, "--seed_id", 0) == 0
    assert run("loo", "--seed_id", 0, "--loo_ids", "3:2") != 0
    assert "FIRST < LAST" in capsys.readouterr().err


def test_an_interruption_while_workers_start_is_not_lost():
    with pytest.raises(KeyboardInterrupt), workers.interruption_deferred():
        os.kill(os.getpid(), signal.SIGINT)
