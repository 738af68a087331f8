"""Plans: what commands are worth, what is finished, what it costs, and what nobody knows."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tda import paths
from tda.errors import UserError
from tda.experiments import PAPER_GRID, VIT_GRID, VIT_SMALL_GRID, Experiment
from tda.final_model import FinalModels
from tda.planning import costs, dry_run
from tda.planning.commands import PART, work_of
from tda.planning.costs import Cost
from tda.planning.dry_run import Job
from tda.planning.gpus import Gpu
from tda.planning.plan import priced, table, tasks, unknown, wall_s
from tda.stages.retraining import MIN_PART

SMALL = Experiment("cnn2", "mnist3", 10)
LOO = "python tda_cnn_scripts/loo.py --task mnist3 --num_per_class 10 --layers 2"
NAN = float("nan")


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    return tmp_path


def cost(stage, system=SMALL.name, flags="", seconds=NAN, tflop=NAN, device="cpu"):
    return Cost(stage, system, flags, "run", device, seconds, tflop, "cpu", "here", "a command")


def known(*given):
    return {each.key: each for each in given}


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_a_part_is_that_of_the_stages():
    assert PART == MIN_PART


@pytest.mark.parametrize(
    ("command", "stage", "system", "flags", "units"),
    [
        (LOO, "loo", "cnn2_mnist3_10pc", "", 310),
        (f"{LOO} --seed_id 3", "loo", "cnn2_mnist3_10pc", "", 31),
        (f"{LOO} --seed_id 3 --loo_ids 0:10 --jobs 1", "loo", "cnn2_mnist3_10pc", "", 11),
        (f"{LOO} --seed_id 3 && touch -c a.nc b.nc", "loo", "cnn2_mnist3_10pc", "", 31),
        (f"{LOO} --seed_id 3 --loo_ids 10:30", "loo", "cnn2_mnist3_10pc", "", 20),
        (f"{LOO} --variant published", "loo", "cnn2_mnist3_10pc", "--variant published", 310),
        (f"{LOO} --randomness crossed", "loo", "cnn2_mnist3_10pc", "", 16 * 31),
        ("python train_cnn.py --task cifar10 --num_per_class 50 --layers 3", "train",
         "cnn3_cifar10_50pc", "", 10),
        ("python tda_vit_scripts/ats.py --model vit_small --task mnist3s7 --num_per_class 4", "ats",
         "vit_small_mnist3_4pc", "", 120),
        ("python tda_vit_scripts/influence.py --also grad_dot grad_cos --task mnist3", "influence",
         "google--vit-base-patch16-224-in21k_mnist3_10pc", "--also grad_dot grad_cos", 10),
        ("python tda_fimo_scripts/further_train.py --task energy --num_seeds 3", "further_train",
         "fimo_energy", "", 6 * 3 * 101),
        ("python tda_fimo_scripts/further_train.py --task energy --optimizer adam --train_seed 0",
         "further_train", "fimo_energy", "--optimizer adam", 10 * 101),
        ("python tda_fimo_scripts/further_train.py --task energy --train_seed 0 1 2 --seed_id 0",
         "further_train", "fimo_energy", "", 3 * 101),
        ("python tda_fimo_scripts/further_train.py --task energy --train_seed 0 --seed_id 2 "
         "--loo_ids 0:50", "further_train", "fimo_energy", "", 51),
        ("python tda_fimo_scripts/train_final.py --task energy", "train_final", "fimo_energy", "",
         6),
        ("python tda_distributional_scripts/concrete.py --runs 9", "samples",
         "distributional_concrete", "--runs 9", 1),
        ("python analysis/p_values.py --experiment cnn2_mnist3_10pc_batch", "p_values",
         "mnist3_10pc", "", 1),
        ("python analysis/fimo_gold.py --task energy", "fimo_gold", "fimo_energy", "", 1),
    ],
)  # fmt: skip
def test_commands_are_worth_their_units(command, stage, system, flags, units):
    work = work_of(command)
    assert (work.stage, work.system, work.flags, work.units) == (stage, system, flags, units)
    assert max(work.pieces) <= PART
    assert sum(work.pieces) == units


@pytest.mark.parametrize("command", ["", "touch x", "python elsewhere/loo.py", "python setup.py"])
def test_other_commands_are_no_work(command):
    assert work_of(command) is None


def test_a_seed_that_does_not_exist_is_an_error():
    with pytest.raises(UserError, match="--seed_id 10"):
        work_of(f"{LOO} --seed_id 10")


def test_workers_are_processes_beside_the_script_itself():
    assert [work_of(f"{LOO} {jobs}").processes for jobs in ("", "--jobs 1", "--jobs 4")] == [
        1,
        1,
        5,
    ]


def test_finished_runs_and_parts_do_not_count():
    files = [paths.scores(SMALL.name, "loo", run.name) for run in SMALL.runs()]
    assert work_of(LOO, files).units == 310
    touch(files[0])
    touch(paths.part(files[1], 0, 8))
    touch(paths.part(files[1], 4, 10))
    work = work_of(LOO, files)
    assert work.units == 310 - 31 - 10
    assert list(work.items) == [run.name for run in SMALL.runs()[1:]]
    touch(files[1])
    assert work_of(LOO, files).units == 310 - 62


def test_a_run_is_finished_when_all_of_its_files_are_there():
    run = SMALL.runs()[0]
    epochs = SMALL.recipe.kept_epochs
    files = [paths.predictions(SMALL.name, run.name)]
    files += [paths.checkpoint(SMALL, run.name, epoch) for epoch in epochs]
    command = "python train_cnn.py --seed_id 0"
    for file in files:
        assert work_of(command, files).units == 1
        touch(file)
    assert work_of(command, files).units == 0


DRY = """
[Wed Nov 25 17:40:08 2026]
rule train_x:
    input: /r/seeds.txt, /r/a b.parquet
    output: /r/1.nc (update), /r/2.nc (update)
    jobid: 3
    reason: Missing output files: /r/1.nc
    threads: 2
Shell command: /venv/bin/python train_cnn.py --task mnist3 --jobs 2

[Wed Nov 25 17:40:08 2026]
localrule all:
    input: /r/2.nc
    jobid: 0
    reason: Rules with neither input nor output files are always executed.
Shell command: None
"""


def test_jobs_of_a_dry_run_are_read():
    first, last = dry_run.parse(DRY)
    assert first == Job(
        "train_x", "/venv/bin/python train_cnn.py --task mnist3 --jobs 2",
        (Path("/r/seeds.txt"), Path("/r/a b.parquet")), (Path("/r/1.nc"), Path("/r/2.nc")),
    )  # fmt: skip
    assert last == Job("all", "", (Path("/r/2.nc"),), ())
    assert dry_run.predecessors([first, last]) == [(), (0,)]


def small_plan(device="", gpu=None):
    """Training, then LOO's tables; a stage that nobody measured."""
    a, b, c = (Path(f"/nowhere/{name}") for name in "abc")
    jobs = [
        Job("table", "python analysis/p_values.py --experiment cnn2_mnist3_10pc", (a, b), (c,)),
        Job("train", "python train_cnn.py --jobs 2", (), (a,)),
        Job("loo", LOO, (), (b,)),
        Job("ats", "python tda_cnn_scripts/ats.py", (a,), ()),
        Job("all", "", (c,), ()),
    ]
    given = known(
        cost("train", seconds=36.0), cost("loo", seconds=3.6), cost("start", "", seconds=1.0),
        cost("p_values", "mnist3_10pc", seconds=7.2), cost("loo", tflop=78.0, device="gpu"),
    )  # fmt: skip
    return priced(jobs, given, gpu or Gpu("A100", 0.5), device)


def by_stage(plan):
    rows = table(plan)
    return rows.set_index(rows["work"].str.replace(" (cnn2_)?mnist3_10pc", "", regex=True))


def test_costs_add_up_and_what_is_unknown_is_said():
    plan = small_plan()
    rows = by_stage(plan)
    assert rows["core_h"]["train"] == pytest.approx((360 + 3) / 3600)
    assert rows["core_h"]["loo"] == pytest.approx((310 * 3.6 + 1) / 3600)
    assert rows["core_h"]["tables, figures"] == pytest.approx(8.2 / 3600)
    assert math.isnan(rows["core_h"]["ats"])
    assert rows["basis"]["ats"] == "no measured cost"
    assert [each.job.rule for each in unknown(plan)] == ["ats"]
    assert (rows["gpu_h"].fillna(0) == 0).all()


def test_the_job_that_gathers_what_others_share_has_nothing_left_to_compute():
    shares = [Path(f"/nowhere/.446.{at}.share") for at in ("0-10", "10-30")]
    jobs = [
        Job("loo", LOO, tuple(shares), (Path("/nowhere/446.nc"), Path("/nowhere/724.nc"))),
        Job("loo_share", f"{LOO} --seed_id 0 --loo_ids 0:10", (), (shares[0],)),
        Job("loo_share", f"{LOO} --seed_id 0 --loo_ids 10:30", (), (shares[1],)),
        Job("other", f"{LOO} --randomness batch", (), ()),
    ]
    plan = priced(jobs, known(cost("loo", seconds=2.0)), Gpu())
    assert [each.work.units for each in plan] == [9 * 31, 11, 20, 310]
    assert "446" not in plan[0].work.items
    assert table(plan)["core_h"].sum() == pytest.approx(2 * 620 / 3600)


def test_gpu_hours_are_flops_by_a_share_of_the_peak_and_say_so():
    rows = by_stage(small_plan("gpu"))
    assert rows["gpu_h"]["loo"] == pytest.approx(310 * 78 / (0.5 * 19.5) / 3600)
    assert rows["basis"]["loo"].startswith("estimate: FLOPs / (50% of A100")
    assert math.isnan(rows["core_h"]["train"])  # no FLOPs are known


def test_wall_time_is_between_its_bounds_and_waits_for_predecessors():
    plan = small_plan()
    work_s = sum(each.seconds + each.start_s for each in plan if each.device == "cpu")
    starts_s = sum(each.start_s for each in plan if not each.device)
    assert wall_s(plan, 1, "cpu") == pytest.approx(work_s + starts_s)
    assert wall_s(plan, 10**6, "cpu") == pytest.approx(36 + 7.2)
    assert work_s / 4 <= wall_s(plan, 4, "cpu") < work_s / 4 + 43.2
    assert len(tasks(plan, "gpu")) == len(plan)  # nothing but gates


def test_unmeasured_sizes_take_the_speed_of_the_nearest_measured_one_and_say_so():
    given = known(
        cost("loo", "cnn2_mnist3_10pc", seconds=2.0, tflop=1.0),
        cost("loo", "cnn2_mnist3_50pc", seconds=30.0, tflop=10.0),
        cost("loo", "vit_small_mnist3_20pc", seconds=0.1, tflop=4.1),
        cost("loo", "cnn2_mnist3_20pc", tflop=4.0),
        cost("loo", "cnn3_mnist3_50pc", tflop=4.0),
    )
    plan = [Job("", f"python tda_cnn_scripts/loo.py {f}", (), ()) for f in
            ("--num_per_class 20", "--num_per_class 50 --layers 3")]  # fmt: skip
    estimated, unmeasured = priced(plan, given, Gpu())
    assert estimated.unit_s == pytest.approx(30.0 * 4 / 10)
    assert estimated.basis == "estimate: FLOPs, at the speed of cnn2_mnist3_50pc"
    assert unknown([estimated, unmeasured]) == [unmeasured]


@pytest.mark.parametrize(("name", "share"), [("A100", 0.0), ("A100", 1.1), ("TPU", 0.5)])
def test_gpus_that_do_not_exist_are_refused(name, share):
    with pytest.raises(UserError):
        Gpu(name, share)


def test_costs_are_written_as_they_are_read(tmp_path):
    file = tmp_path / "costs.csv"
    given = [cost("loo", seconds=0.25), cost("loo", tflop=3.5, device="gpu")]
    costs.write(given, file)
    read = costs.read(file)
    assert [read[each.key].seconds for each in given][0] == 0.25
    assert read[given[1].key].tflop == 3.5
    assert math.isnan(read[given[1].key].seconds)


def test_of_two_measurements_the_smaller_one_stays():
    old = known(cost("loo", seconds=2.0), cost("ats", seconds=1.0))
    new = [cost("loo", seconds=1.5), cost("ats", seconds=3.0), cost("train", seconds=5.0)]
    found = {each.stage: each.seconds for each in costs.merged(old, new)}
    assert found == {"loo": 1.5, "ats": 1.0, "train": 5.0}


def test_counted_and_measured_costs_of_one_thing_are_one_row():
    counted, measured = cost("loo", tflop=3.0), cost("loo", seconds=2.0)
    for first, second in ((counted, measured), (measured, counted)):
        (found,) = costs.merged(known(first), [second])
        assert (found.seconds, found.tflop) == (2.0, 3.0)


@pytest.mark.parametrize(
    "content", [None, "", "stage,system\nloo,x\n", "{head}\nloo,x,,run,cpu,,,,,\n",
                "{head}\nloo,x,,run,cpu,-1,,,,\n", "{head}\nloo,x,,run,cpu,fast,,,,\n"],
)  # fmt: skip
def test_a_damaged_table_of_costs_is_refused(tmp_path, content):
    file = tmp_path / "costs.csv"
    if content is not None:
        file.write_text(content.format(head=",".join(costs.NAMES)))
    if content == "":
        assert costs.read(file) == {}
        return
    with pytest.raises(UserError, match="git checkout"):
        costs.read(file)


def test_every_measured_cost_is_of_work_that_exists_and_says_how_it_was_measured():
    for each in costs.read().values():
        assert each.command.startswith("python ")
        assert each.machine
        assert each.seconds > 0 or each.tflop > 0
        if each.unit == "script":
            assert (paths.REPOSITORY / "analysis" / f"{each.stage}.py").exists() or (
                each.stage == "samples" and each.system.startswith("distributional_")
            )
        elif each.system.startswith("fimo_"):
            assert FinalModels(each.system.removeprefix("fimo_"))
        elif each.stage != "start":
            assert Experiment.parse(each.system).name == each.system


def test_leave_one_out_of_the_paper_is_priced():
    """Of every experiment of the grids, on a core or, for ViT-B/16, on a GPU.

    But for CNN3, of which nothing has been measured.
    """
    grid = [each for each in (*PAPER_GRID, *VIT_SMALL_GRID, *VIT_GRID) if each.model != "cnn3"]
    jobs = [Job("", f"{each.script('loo')} {each.flags}", (), ()) for each in grid]
    plan = priced(jobs, costs.read(), Gpu())
    assert unknown(plan) == []
    assert [each.device for each in plan] == ["cpu"] * (len(grid) - 2) + ["gpu"] * 2


def plan_script(*arguments):
    command = [sys.executable, str(paths.REPOSITORY / "analysis" / "plan.py"), *arguments]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)


def test_the_command_plans_a_target_of_the_snakefile():
    for run in SMALL.runs()[:4]:
        touch(paths.scores(SMALL.name, "loo", run.name))
    done = plan_script("reproduce", "--cores", "4")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert "186" in lines["loo"]  # 6 of 10 seeds
    assert "unknown" not in lines["loo"]
    assert "core-hours, 0 GPU-hours" in done.stdout
    assert "hours on 4 cores" in done.stdout


def test_an_unknown_target_is_one_sentence():
    done = plan_script("no_such_target")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: snakemake")
    assert "no_such_target" in done.stderr
    assert "Traceback" not in done.stderr
