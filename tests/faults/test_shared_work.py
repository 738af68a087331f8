"""Several jobs at once, and Ctrl-C."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import Running
from stages import command, each, leftovers, reference

from bayestda.experiments import paths
from bayestda.experiments.terminal import INTERRUPTED, guarded
from bayestda.files import atomic

heavy = pytest.mark.heavy


@each([("cnn", "loo")])
def test_jobs_that_make_the_same_file_all_succeed(system, name, tmp_path):
    whole = reference(system, name)
    root = whole.before(name, tmp_path / "root")
    jobs = [Running(command(system, name), root, tmp_path / str(job)) for job in range(3)]
    for ended in [job.ended() for job in jobs]:
        assert ended.status == 0, ended.err
    whole.assert_finished(root, name)


def test_a_folder_of_parts_that_vanishes_while_a_part_is_written(tmp_path, monkeypatch):
    """Another job has finished the run and removed its parts."""
    plain, target = Path.write_bytes, tmp_path / ".446.parts" / "0-8.nc"

    def written(path, content):
        monkeypatch.undo()
        shutil.rmtree(path.parent)
        return plain(path, content)

    monkeypatch.setattr(Path, "write_bytes", written)
    atomic.write_bytes(target, b"content")
    assert target.read_bytes() == b"content"


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    target = tmp_path / "446.nc"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left, kept = (atomic._temporary(target, process.pid) for process in (dead, living))
    elsewhere = left.with_name(left.name.replace(atomic._HOST, "another-machine"))
    for file in (left, kept, elsewhere):
        file.write_bytes(b"half")
    atomic.write_bytes(target, b"content")
    living.communicate(b"\n")
    assert sorted(tmp_path.iterdir()) == sorted([target, kept, elsewhere])


@each([("cnn", "loo"), ("cnn", "prepare")])
def test_ctrl_c_at_a_random_moment_is_one_line_and_status_130(system, name, tmp_path):
    whole = reference(system, name)
    moment = random.Random(f"{system} {name}").uniform(0.1, 0.9) * whole.seconds[name]
    root = whole.before(name, tmp_path / "root")
    running = Running(command(system, name), root, tmp_path / "log")
    ended = running.signalled(signal.SIGINT, moment)
    print(f"\nCtrl-C {system} {name} after {moment:.3f} s: {ended.status}")
    assert "Traceback" not in ended.err
    assert ended.status in (130, 0)
    assert ended.status == 0 or ended.last_line.startswith("interrupted: run the same command")
    whole.assert_whole(root)
    assert not list(root.rglob(".*.tmp"))
    assert Running(command(system, name), root, tmp_path / "log").ended().status == 0
    whole.assert_finished(root, name)


def test_ctrl_c_in_a_finaliser_is_not_lost(capsys):
    class Interrupted:
        def __del__(self):
            raise KeyboardInterrupt

    def main():
        made = Interrupted()
        del made
        time.sleep(5)
        raise AssertionError("has gone on")

    with pytest.raises(SystemExit) as stopped:
        guarded(main)
    assert stopped.value.code == 130
    assert capsys.readouterr().err == f"{INTERRUPTED}\n"


IMPORTING = ("train_cnn.py", "tda_distributional_scripts/concrete.py", "analysis/p_values.py",
             "tda_fimo_scripts/train_final.py", "data/prepare.py")  # fmt: skip


@pytest.mark.parametrize(
    ("script", "seconds"),
    [pytest.param(script, seconds, marks=() if (script, seconds) == (IMPORTING[0], 0) else heavy)
     for script in IMPORTING for seconds in (0, 0.4)],
)  # fmt: skip
def test_ctrl_c_while_a_script_imports_is_one_line(script, seconds, tmp_path, monkeypatch):
    """From the moment on when numpy is there, and torch, pandas, xarray are not."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, str(paths.REPOSITORY / script)], stderr=subprocess.PIPE, text=True
    )
    loaded = Path(f"/proc/{process.pid}/maps")
    if not loaded.exists():
        pytest.skip("what a process has loaded is told by Linux only")
    while process.poll() is None and "numpy" not in loaded.read_text():
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors
    had_ended = process.returncode == 2 or "error: " in errors  # for want of flags or results
    assert had_ended or (process.returncode, errors) == (130, f"{INTERRUPTED}\n")
    assert not leftovers(tmp_path)
