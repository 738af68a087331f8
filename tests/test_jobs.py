"""How work is cut into jobs: shares of a run, files and time limits; shares make the whole."""

import numpy as np
import pytest
from stage_scripts import make_subset, run, score_file

from tda import jobs, paths, store
from tda.jobs import StageWork, run_minutes, shares
from tda.planning.costs import read


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


def test_a_run_takes_what_its_command_was_measured_to_cost():
    cost = read()[("loo", "cnn2_mnist3_10pc", "", "cpu")].seconds
    command = "tda_cnn_scripts/loo.py --task mnist3 --num_per_class 10"
    assert run_minutes(command) == pytest.approx(31 * cost / 60)
    assert run_minutes(f"{command} --seed_id 3") == pytest.approx(31 * cost / 60)
    assert run_minutes("tda_cnn_scripts/loo.py --task mnist3s7 --num_per_class 3") is None
    vit = "tda_vit_scripts/loo.py --task mnist3 --num_per_class 50"  # of ViT-B/16: FLOPs alone
    assert run_minutes(vit) is None
    assert run_minutes(vit, gpu=True) > 0


def test_time_limits_follow_the_runs_and_shares_of_a_job(monkeypatch):
    start, safety = jobs.START_MINUTES, jobs.SAFETY
    monkeypatch.setattr(jobs, "run_minutes", lambda _command, _gpu: 10.0)
    left_out = work(num_left_out=30)
    assert left_out.time_limit(0) == start + safety * 20
    assert left_out.time_limit(1) == start + safety * 10
    assert left_out.time_limit(4) == start + safety * 10 / 4
    assert work().time_limit(4) == start + safety * 10
    monkeypatch.setattr(jobs, "run_minutes", lambda _command, _gpu: None)
    assert work().time_limit(4) == jobs.UNKNOWN_MINUTES


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
