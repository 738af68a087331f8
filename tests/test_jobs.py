"""How work is cut into jobs: shares of a run, files and time limits; shares make the whole."""

import numpy as np
import pytest
from stage_scripts import make_subset, run, score_file

from tda import jobs, paths, store
from tda.experiments import Experiment
from tda.jobs import Work, minutes, shares


@pytest.mark.parametrize(("count", "num_jobs"), [(30, 1), (30, 4), (12, 5), (7, 7), (3, 9), (1, 1)])
def test_shares_hold_each_example_once_and_differ_by_at_most_one(count, num_jobs):
    found = shares(count, num_jobs)
    assert [i for first, last in found for i in range(first, last)] == list(range(count))
    sizes = {last - first for first, last in found}
    assert len(found) == min(num_jobs, count)
    assert max(sizes) - min(sizes) <= 1


def work(**more):
    return Work(
        name="loo", command="loo.py", runs=["4", "8"],
        makes=lambda run: [paths.scores("x", "loo", run)],
        needs=lambda run: [paths.predictions("x", run)],
        needs_always=[paths.SEEDS], **more,
    )  # fmt: skip


def test_a_job_of_all_runs_has_their_files_and_one_of_a_run_a_pattern():
    assert work().inputs(per_run=False) == [
        paths.SEEDS, paths.predictions("x", "4"), paths.predictions("x", "8")
    ]  # fmt: skip
    assert work().outputs(per_run=False) == [paths.scores("x", "loo", run) for run in ("4", "8")]
    assert work().inputs(per_run=True) == [paths.SEEDS, paths.predictions("x", "{run}")]
    assert [path.name for path in work(pattern="{a}x{b}").outputs(per_run=True)] == ["{a}x{b}.nc"]


def test_time_limits_follow_the_runs_and_shares_of_a_job():
    start, safety = jobs.START_MINUTES, jobs.SAFETY
    known = work(minutes=10, num_left_out=30)
    assert known.time_limit(0) == start + safety * 20
    assert known.time_limit(1) == start + safety * 10
    assert known.time_limit(4) == start + safety * 10 / 4
    assert work(minutes=10).time_limit(4) == start + safety * 10
    assert work().time_limit(4) is None


def test_minutes_grow_with_retrainings_examples_and_epochs():
    small, large = (Experiment("cnn2", "mnist3", size) for size in (10, 50))
    assert minutes(small, "loo") == pytest.approx(18 / 60)
    assert minutes(large, "loo") == pytest.approx(18 / 60 * 5 * 151 / 31)
    assert minutes(large, "ats") == pytest.approx(5 * 16 / 60)
    cifar10 = Experiment("cnn2", "cifar10", 10)  # 100 images, 30 epochs
    assert minutes(cifar10, "train") == pytest.approx(2 / 60 * 100 / 30 * 2)
    assert minutes(Experiment("vit_small", "mnist3", 10), "loo") == pytest.approx(48 / 60)
    assert minutes(Experiment("someones_vit", "mnist3", 10), "loo") is None


def test_shares_of_a_run_make_the_file_of_one_job_bit_for_bit(tmp_path, monkeypatch):
    found = []
    for root, parts in (("one", ["0:12"]), ("many", ["10:12", "0:5", "5:10"])):
        monkeypatch.setenv("TDA_ROOT", str(tmp_path / root))
        make_subset()
        for part in parts:
            assert run("loo", "--seed_id", 1, "--loo_ids", part) == 0
        found.append(store.open_scores(score_file("loo", 1), "test"))
        assert [file.name for file in score_file("loo").parent.iterdir()] == [
            score_file("loo", 1).name
        ]
    one, many = found
    assert one["score"].values.tobytes() == many["score"].values.tobytes()
    assert one["test_loss"].values.tobytes() == many["test_loss"].values.tobytes()
    assert one.attrs["settings"] == many.attrs["settings"]
    np.testing.assert_array_equal(one["train"], many["train"])
