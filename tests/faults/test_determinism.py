"""What is promised to be equal bit for bit, and how far apart the rest may be."""

import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from commands import Command, run
from stages import SOME, command, each, reference, same

from bayestda.experiments import paths

heavy = pytest.mark.heavy


def in_process_of_its_own(asked, root, threads, **environment):
    """A command as from a shell, with a number of threads."""
    code = "import sys, runpy, commands\n" + "".join(
        f"import hindrances; hindrances.{prepare.__name__}()\n" for prepare in asked.before
    )
    code += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    helpers = os.pathsep.join([str(paths.REPOSITORY / "tests"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, str(paths.REPOSITORY / asked.script),
         *map(str, asked.flags)],
        env={**os.environ, "TDA_ROOT": str(root), "OMP_NUM_THREADS": str(threads),
             "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads),
             "PYTHONPATH": helpers, **environment},
        capture_output=True, text=True, cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@each([], SOME)
def test_the_same_command_gives_the_same_bits(system, name, tmp_path):
    whole = reference(system, name)
    root = whole.before(name, tmp_path / "root")
    assert run(command(system, name), root, tmp_path / "log").status == 0
    whole.assert_finished(root, name)


@each([("cnn", "influence")])
def test_two_threads_change_no_bit(system, name, tmp_path):
    whole = reference(system, name)
    root = whole.before(name, tmp_path / "root")
    in_process_of_its_own(command(system, name), root, 2)
    whole.assert_finished(root, name)


@pytest.mark.parametrize(
    "variant", [pytest.param("--jobs 2", marks=heavy), pytest.param("--memory_gb 0.2", marks=heavy),
                pytest.param("--loo_ids", marks=heavy)],
)  # fmt: skip
def test_workers_memory_and_ranges_change_no_bit_of_retraining(variant, tmp_path):
    whole = reference("cnn", "loo")
    root = whole.before("loo", tmp_path / "root")
    plain = command("cnn", "loo")
    own = {"--jobs 2": [("--jobs", 2)], "--memory_gb 0.2": [("--memory_gb", 0.2)],
           "--loo_ids": [("--loo_ids", "5:9"), ("--loo_ids", "0:5")]}[variant]  # fmt: skip
    for flags in own:
        ended = run(Command("loo", plain.script, plain.flags + flags), root, tmp_path / "log")
        assert ended.status == 0, ended.err
    whole.assert_finished(root, "loo")


def test_influence_with_other_methods_gives_each_the_bits_it_has_alone(tmp_path):
    whole = reference("cnn", "grad_cos")
    root = whole.before("influence", tmp_path / "root")
    plain = command("cnn", "influence")
    flags = (*plain.flags, "--also", "grad_dot", "grad_cos")
    assert run(Command("influence", plain.script, flags), root, tmp_path / "log").status == 0
    for name in ("influence", "grad_dot", "grad_cos"):
        assert whole.made[name]
        whole.assert_finished(root, name)


def relative_difference(path, expected):
    """Norm of the difference of scores, relative to the scores."""
    first, second = (
        xr.load_dataset(p, engine="h5netcdf")["score"].values for p in (path, expected)
    )
    return float(np.linalg.norm(first - second) / np.linalg.norm(second))


@heavy
@pytest.mark.parametrize(
    ("name", "flags", "environment", "tolerance"),
    [
        ("loo", ("--chunk", 5), {}, 2e-2),
        ("ats", ("--chunk", 5), {}, 1e-3),
        ("influence", ("--memory_gb", 0.001), {}, 1e-3),
        ("loo", (), {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
                     "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, 2e-2),
        ("influence", (), {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
                           "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, 1e-3),
    ],
)  # fmt: skip
def test_what_is_not_promised_stays_within_its_tolerance(
    name, flags, environment, tolerance, tmp_path
):
    """Members stacked, less memory, a processor without AVX: other orders of summation."""
    whole, plain = reference("cnn", name), command("cnn", name)
    root = whole.before(name, tmp_path / "root")
    in_process_of_its_own(Command(name, plain.script, plain.flags + flags), root, 1, **environment)
    for file in whole.made[name]:
        found = relative_difference(root / file, whole.root / file)
        print(f"\n{name} {' '.join(map(str, flags))} {environment}: {found:.1e}")
        assert found < tolerance


@pytest.mark.parametrize("name", ["train", pytest.param("grad_dot", marks=heavy)])
def test_runs_one_by_one_and_all_in_one_command_have_the_same_bits(name, tmp_path):
    """Ten runs in one command: the first is that of --seed_id 0."""
    whole, plain = reference("cnn", name), command("cnn", name)
    root = whole.before(name, tmp_path / "root")
    flags = [str(flag) for flag in plain.flags]
    at = flags.index("--seed_id")
    together = Command(name, plain.script, tuple(flags[:at] + flags[at + 2 :]))
    if name != "train":
        trained = command("cnn", "train")
        for_all = Command("train", trained.script, together.flags)
        assert run(for_all, root, tmp_path / "log").status == 0
    assert run(together, root, tmp_path / "log").status == 0
    for file in whole.made[name]:
        assert same(root / file, whole.root / file)
