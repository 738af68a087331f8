"""Schedules in simulated time: closed forms, conservation of work, geometric retries."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from stage_scripts import run_path

from tda import paths
from tda.errors import UserError
from tda.experiments import VIT_GRID, Experiment
from tda.planning.schedule import Cluster, Task, lengths_to_end, simulate
from tda.planning.workload import idle_s, repeated, split, summary

SMALL = Experiment("cnn2", "mnist3", 10)
UNIT_S = {"train": 50.0, "loo": 7.0, "ats": 3.0, "influence": 20.0}
ROUGH = Cluster(3, overhead_s=2.0, spread=0.5, failures_per_s=1 / 60, repair_s=5.0)


@pytest.mark.parametrize(("number", "machines"), [(1, 1), (12, 4), (13, 4), (3, 8)])
def test_equal_tasks_take_as_many_rounds_as_it_needs(number, machines):
    found = simulate([Task(4, 2.5)] * number, Cluster(machines, overhead_s=1.5))
    assert found.makespan_s == pytest.approx(math.ceil(number / machines) * (1.5 + 4 * 2.5))
    assert (found.useful_s, found.overhead_s) == (number * 10, number * 1.5)
    assert (found.lost_s, found.failures) == (0, 0)


def test_a_chain_takes_its_sum_on_any_number_of_machines():
    chain = [Task(1, 3.0), Task(2, 1.0, (0,)), Task(1, 4.0, (1,))]
    assert simulate(chain, Cluster(5, overhead_s=0.5)).makespan_s == 3 + 2 + 4 + 1.5
    assert lengths_to_end(chain) == [9.0, 6.0, 4.0]


def test_a_task_waits_for_all_of_its_predecessors():
    tasks = [Task(1, 1.0), Task(1, 10.0), Task(1, 2.0, (0, 1))]
    assert simulate(tasks, Cluster(3)).makespan_s == 12


def test_the_longest_way_to_the_end_goes_first():
    """Two machines; the chain of 1 + 9 must not wait behind the others."""
    tasks = [Task(1, 5.0), Task(1, 5.0), Task(1, 1.0), Task(1, 9.0, (2,))]
    assert simulate(tasks, Cluster(2)).makespan_s == 10


def test_work_is_conserved_without_stragglers_however_often_machines_fail():
    tasks = split(SMALL, UNIT_S, size=8, part=4)
    work_s = sum(task.units * task.unit_s for task in tasks)
    cluster = Cluster(5, overhead_s=2.0, failures_per_s=1 / 40, repair_s=7.0)
    found = simulate(tasks, cluster, seed=3)
    assert found.failures > 50
    assert found.useful_s == pytest.approx(work_s)
    busy_s = found.useful_s + found.overhead_s + found.lost_s
    assert busy_s + idle_s(found, 5) == pytest.approx(5 * found.makespan_s)
    assert idle_s(found, 5) > 0


def test_makespan_is_never_below_work_over_machines_or_the_longest_chain():
    tasks = split(SMALL, UNIT_S, size=8, part=4)
    for machines in (1, 2, 7, 100):
        made_s = simulate(tasks, Cluster(machines)).makespan_s
        work_s = sum(task.units * task.unit_s for task in tasks)
        assert made_s >= max(work_s / machines, max(lengths_to_end(tasks))) - 1e-9
        assert made_s <= work_s / machines + max(lengths_to_end(tasks)) + 1e-9  # Graham's bound


@pytest.mark.parametrize("rate_x_length", [0.3, 1.0, 2.0])
def test_a_unit_is_retried_a_geometric_number_of_times(rate_x_length):
    length_s, repetitions = 30.0, 3000
    rate = rate_x_length / length_s
    cluster = Cluster(1, failures_per_s=rate, repair_s=11.0)
    found = [simulate([Task(1, length_s)], cluster, seed) for seed in range(repetitions)]
    failures = np.array([each.failures for each in found])
    at_work_s = np.array([each.useful_s + each.lost_s for each in found])
    expected = math.expm1(rate_x_length)
    for values, mean in ((failures, expected), (at_work_s, expected / rate)):
        error = values.std(ddof=1) / repetitions**0.5
        assert abs(values.mean() - mean) < 4 * error
    assert np.var(failures) == pytest.approx(expected * (1 + expected), rel=0.25)
    makespan_s = np.array([each.makespan_s for each in found])
    np.testing.assert_allclose(makespan_s, at_work_s + 11.0 * failures)


def test_finished_units_are_kept_so_that_units_are_retried_one_by_one():
    """Without overhead k units fail as k tasks of one unit would."""
    rate, length_s, units, repetitions = 1 / 40, 20.0, 6, 2000
    cluster = Cluster(1, failures_per_s=rate)
    lost_s = [simulate([Task(units, length_s)], cluster, s).lost_s for s in range(repetitions)]
    expected = units * (math.expm1(rate * length_s) / rate - length_s)
    assert abs(np.mean(lost_s) - expected) < 4 * np.std(lost_s) / repetitions**0.5


def test_stragglers_have_mean_one():
    durations = [
        simulate([Task(1, 10.0)], Cluster(1, spread=0.5), seed).makespan_s for seed in range(4000)
    ]
    assert abs(np.mean(durations) - 10) < 4 * np.std(durations) / 4000**0.5
    assert np.std(np.log(durations)) == pytest.approx(0.5, rel=0.1)


def test_a_seed_says_it_all():
    tasks = split(SMALL, UNIT_S, size=8, part=4)
    assert simulate(tasks, ROUGH, 5) == simulate(tasks, ROUGH, 5)
    assert simulate(tasks, ROUGH, 5) != simulate(tasks, ROUGH, 6)


@pytest.mark.parametrize("size", [1, 8, 30, 31, 100])
def test_splitting_keeps_the_work(size):
    """10 runs: a training, 31 retrainings, 30 steps, an influence function."""
    tasks = split(SMALL, UNIT_S, size, part=4)
    assert len(tasks) == 10 * (3 + math.ceil(31 / size)) + 1
    work_s = sum(task.units * task.unit_s for task in tasks)
    assert work_s == pytest.approx(10 * (50 + 31 * 7 + 30 * 3 + 20))
    assert len(tasks[-1].after) == len(tasks) - 1


def test_summary_is_of_the_repetitions():
    tasks = split(SMALL, UNIT_S, size=8, part=4)
    table = repeated(tasks, ROUGH, 20)
    found = summary(table)
    assert found["makespan_h"] == pytest.approx(table["makespan_h"].mean())
    bounds = [found["lost_h_low"], found["lost_h"], found["lost_h_high"]]
    assert all(low < high for low, high in pairwise(bounds))
    assert 0 < found["utilisation"] < 1


@pytest.mark.parametrize(
    ("tasks", "machines", "said"),
    [
        ([Task(1, 1.0)], 0, "machines=0"),
        ([Task(0, 1.0)], 1, "one unit"),
        ([Task(1, 1.0, (1,)), Task(1, 1.0, (0,))], 1, "cycle"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(tasks, machines, said):
    with pytest.raises(UserError, match=said):
        simulate(tasks, Cluster(machines))


def test_the_figure_and_its_table_are_made(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    script = paths.REPOSITORY / "analysis" / "figure_schedule.py"
    assert run_path(script, "--repetitions", "2", "--experiment", VIT_GRID[0].name) == 0
    table = pd.read_csv(tmp_path / "results" / "schedule.csv")
    assert sorted(set(table["gpus"])) == [8, 64, 512]
    assert sorted(set(table["size"])) == [8, 16, 32, 64, 128, 151]
    assert (table["makespan_h"] > table["work_h"] / table["gpus"]).all()
    assert table["work_h"].std() < 1e-3 * table["work_h"].mean()
    assert paths.figure(None, "schedule").stat().st_size > 10_000


def test_an_experiment_without_counted_flops_is_refused(capsys):
    script = paths.REPOSITORY / "analysis" / "figure_schedule.py"
    assert run_path(script, "--experiment", "vit_large_mnist3_10pc") == 2
    assert "plan_vit.py --write" in capsys.readouterr().err
