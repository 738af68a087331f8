"""kill -9 at any moment: nothing half-written has a final name, and a rerun gives the same bits."""

import random
import signal

import pytest
from commands import Running, run
from hindrances import killed_at_write, killed_while_parts_are_removed
from stages import ALL, SOME, command, each, reference

SEED, KILLS = 7, 3
DIED: list[str] = []
LIGHT = [("cnn", "prepare"), ("cnn", "loo")]


def root_before(system, name, tmp_path):
    return reference(system, name).before(name, tmp_path / "root")


def assert_a_rerun_succeeds(system, name, tmp_path):
    """After a kill: whole files only; the same command again makes the rest, equal bit for bit."""
    root = tmp_path / "root"
    reference(system, name).assert_whole(root)
    again = run(command(system, name), root, tmp_path / "log")
    assert again.status == 0, again.err
    reference(system, name).assert_finished(root, name)


@each(LIGHT)
def test_a_stage_killed_at_random_moments_of_its_duration(system, name, tmp_path):
    seconds = reference(system, name).seconds[name]
    rng = random.Random(f"{SEED} {system} {name}")
    for kill in range(KILLS):
        moment = rng.uniform(0, seconds)
        folder = tmp_path / str(kill)
        root = root_before(system, name, folder)
        ended = Running(command(system, name), root, folder / "log").signalled(
            signal.SIGKILL, moment
        )
        assert ended.status in (-signal.SIGKILL, 0), ended.err
        DIED.extend([f"{system} {name}"] if ended.status else [])
        print(f"\nkill -9 {system} {name} after {moment:.3f} of {seconds:.3f} s: {ended.status}")
        assert_a_rerun_succeeds(system, name, folder)


@pytest.mark.heavy
def test_at_least_fifty_random_kills_have_met_their_stage():
    """After all of the above: a kill whose moment came after the stage's end does not count."""
    print(f"\n{len(DIED)} random kills, over {len(set(DIED))} of {len(ALL)} stages")
    assert len(DIED) >= 50
    assert len(set(DIED)) >= 0.75 * len(ALL)


@each(LIGHT[1:])
def test_a_stage_killed_while_it_writes_each_of_its_files(system, name, tmp_path):
    killed_at_each_file(system, name, "half written", tmp_path)


@each([], SOME)
def test_a_stage_killed_when_each_of_its_files_has_its_name(system, name, tmp_path):
    killed_at_each_file(system, name, "named", tmp_path)


def killed_at_each_file(system, name, moment, tmp_path):
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        root = root_before(system, name, folder)
        hindered = command(system, name).after(killed_at_write(number, moment))
        ended = run(hindered, root, folder / "log")
        if ended.status == 0:
            break
        assert ended.status == -signal.SIGKILL, ended.err
        assert_a_rerun_succeeds(system, name, folder)
    print(f"\nkill -9 {system} {name} at each of {number - 1} files, {moment}")
    assert number > len(reference(system, name).made[name])


@each([("cnn", "loo")], [("cnn", "loo")])
def test_a_stage_killed_while_it_removes_a_finished_runs_parts(system, name, tmp_path):
    root = root_before(system, name, tmp_path)
    hindered = command(system, name).after(killed_while_parts_are_removed)
    assert run(hindered, root, tmp_path / "log").status == -signal.SIGKILL
    assert_a_rerun_succeeds(system, name, tmp_path)
