"""How work is cut into jobs: shares of a run, and files; shares make the whole."""

import numpy as np
import pytest
from stage_scripts import make_subset, run, score_file

from bayestda.experiments import paths, results
from bayestda.experiments.jobs import StageWork, shares


@pytest.mark.parametrize(("count", "num_jobs"), [(30, 1), (30, 4), (12, 5), (7, 7), (3, 9), (1, 1)])
def test_shares_hold_each_example_once_and_differ_by_at_most_one(count, num_jobs):
    found = shares(count, num_jobs)
    assert [i for first, last in found for i in range(first, last)] == list(range(count))
    sizes = {last - first for first, last in found}
    assert len(found) == min(num_jobs, count)
    assert max(sizes) - min(sizes) <= 1


def work(**more):
    return StageWork(
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


def test_shares_of_a_run_make_the_file_of_one_job_bit_for_bit(tmp_path, monkeypatch):
    found = []
    for root, parts in (("one", ["0:12"]), ("many", ["10:12", "0:5", "5:10"])):
        monkeypatch.setenv("TDA_ROOT", str(tmp_path / root))
        make_subset()
        for part in parts:
            assert run("loo", "--seed_id", 1, "--loo_ids", part) == 0
        found.append(results.open_scores(score_file("loo", 1), "test"))
        assert [file.name for file in score_file("loo").parent.iterdir()] == [
            score_file("loo", 1).name
        ]
    one, many = found
    assert one["score"].values.tobytes() == many["score"].values.tobytes()
    assert one["test_loss"].values.tobytes() == many["test_loss"].values.tobytes()
    assert one.attrs["settings"] == many.attrs["settings"]
    np.testing.assert_array_equal(one["train"], many["train"])
