"""Where a stage runs: odd paths, a clock set back, no home folder, little memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run
from hindrances import clock_set_back, little_memory
from stages import SOME, command, each, reference

from bayestda.experiments import paths

heavy = pytest.mark.heavy
RUN_FROM = (  # PYTHONPATH cannot name a folder with a colon
    "import runpy, sys; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:]\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
ODD = 'a folder\'s name: \N{LATIN SMALL LETTER U WITH DIAERESIS}\N{SNOWMAN} $HOME; %s {x} "q"'


@each([("cnn", "train")], SOME)
def test_a_clock_set_back_changes_nothing(system, name, tmp_path):
    """Also what was made long after now is used as it is."""
    whole = reference(system, name)
    root = whole.before(name, tmp_path / "root")
    for path in root.rglob("*"):
        os.utime(path, (4e9, 4e9))
    ended = run(command(system, name).after(clock_set_back), root, tmp_path / "log")
    assert ended.status == 0, ended.err
    whole.assert_finished(root, name)
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*.nc")}
    assert run(command(system, name), root, tmp_path / "log").status == 0
    if system != "analysis":  # which writes its tables anew
        assert before == {file: file.stat().st_mtime_ns for file in root.rglob("*.nc")}


@each([("cnn", "loo")], SOME)
def test_odd_names_of_folders(system, name, tmp_path):
    whole = reference(system, name)
    root = whole.before(name, tmp_path / ODD / "root")
    ended = run(command(system, name), root, tmp_path / "log")
    assert ended.status == 0, ended.err
    whole.assert_finished(root, name)


@each([], [*SOME, ("cnn", "grad_dot")])
def test_little_memory_is_enough_or_one_sentence(system, name, tmp_path):
    """What is left is 2, 12 or 64 MB beyond what torch and its libraries take."""
    whole = reference(system, name)
    for megabytes in (2, 12, 64):
        root = whole.before(name, tmp_path / str(megabytes))
        hindered = command(system, name).after(little_memory(megabytes))
        ended = run(hindered, root, tmp_path / "log")
        assert "Traceback" not in ended.err
        told = ended.status == 2 and "there is not enough memory" in ended.last_line
        by_the_system = ended.status < 0 or ended.last_line.endswith("ABORT")  # of the C library
        assert ended.status == 0 or told or by_the_system, ended.err
        print(f"\n{system} {name}, {megabytes} MB: {ended.status} {ended.last_line[-70:]}")
        whole.assert_whole(root)
        assert run(command(system, name), root, tmp_path / "log").status == 0
        whole.assert_finished(root, name)


def script(path: str, *flags, root: Path, **environment) -> subprocess.CompletedProcess:
    """A script in an environment of its own: no home folder, and nothing else either."""
    return subprocess.run(
        [sys.executable, path, *map(str, flags)], capture_output=True, text=True, cwd="/",
        env={"TDA_ROOT": str(root), "PATH": os.defpath, **environment},
    )  # fmt: skip


def assert_same_results(done, whole, root, name):
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "rror" not in done.stderr
    whole.assert_finished(root, name)


@pytest.mark.parametrize(
    ("system", "name"),
    [("cnn", "train"), pytest.param("analysis", "figures", marks=heavy),
     pytest.param("cnn", "prepare", marks=heavy), pytest.param("vit", "finetune", marks=heavy)],
)  # fmt: skip
def test_without_a_home_folder_and_with_a_gigabyte_of_memory(system, name, tmp_path):
    """Not even the user's name is known; data may take a gigabyte."""
    whole, asked = reference(system, name), command(system, name)
    root = whole.before(name, tmp_path / "root")
    code = (
        "import pwd, resource, runpy, sys\n"
        "def unknown(number): raise KeyError(number)\n"
        "pwd.getpwuid = unknown\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (10**9, 10**9))\n"
        "sys.argv = sys.argv[1:]\n"
        f"sys.path.insert(0, {str(paths.REPOSITORY)!r})\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    memory = () if name == "prepare" or system == "analysis" else ("--memory_gb", 0.1)
    flags = [str(paths.REPOSITORY / asked.script), *asked.flags, *memory]
    done = script("-c", code, *flags, root=root, OMP_NUM_THREADS="1")
    assert_same_results(done, whole, root, name)


@pytest.mark.parametrize("kept", ["prepare", pytest.param("train", marks=heavy)])
def test_the_project_in_a_folder_with_an_odd_name(kept, tmp_path):
    """A copy of the code, used without TDA_ROOT: what it writes is beside the code."""
    project = tmp_path / ODD
    for name in ("bayestda", "data", "seeds.txt", "train_cnn.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        copied = subprocess.run(["cp", "-r", str(paths.REPOSITORY / name), str(project / name)])
        assert copied.returncode == 0
    asked = command("cnn", kept)
    whole = reference("cnn", kept).before(kept, project)
    done = subprocess.run(
        [sys.executable, "-c", RUN_FROM, project, project / asked.script, *map(str, asked.flags)],
        env={**os.environ, "TDA_ROOT": ""},
        cwd="/", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = reference("cnn", kept).made[kept]
    assert made and all((whole / file).exists() for file in made)
