"""Every file that a stage reads, empty, cut, foreign or with a flipped bit."""

import shutil

import pytest
from commands import run
from stages import SYSTEMS, command, each, reference, same

READING = [("cnn", "grad_dot"), ("cnn", "loo"), ("vit", "influence"), ("fimo", "approximate"),
           ("analysis", "p_values"), ("analysis", "figures"),
           ("analysis", "summary")]  # fmt: skip


def empty(_content):
    return b""


def cut(content):
    return content[: len(content) // 2]


def foreign(_content):
    return b"\x80\x04K\x01."  # a pickle


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = [cut, *(pytest.param(own, marks=pytest.mark.heavy) for own in (empty, foreign, flipped))]


@each([("cnn", "grad_dot")], READING)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_what_mends_it_or_not_needed(system, name, damage, tmp_path):
    """Mended as the message says (deleted, and its stage run again), the stage succeeds."""
    whole = reference(system, name)
    refused = 0
    for number, file in enumerate(sorted(inputs(system, name))):
        root = whole.before(name, tmp_path / str(number))
        (root / file).write_bytes(damage((root / file).read_bytes()))
        ended = run(command(system, name), root, tmp_path / "log")
        assert "Traceback" not in ended.err
        if ended.status == 0:
            if damage is not flipped and file.suffix != ".txt":  # of a list: other data
                shutil.copy2(whole.root / file, root / file)
                whole.assert_finished(root, name)  # it was not read
            continue
        assert ended.status == 2, ended.err
        assert ended.last_line.startswith("error: ")
        assert any(word in ended.last_line for word in ("run `", "git checkout", "delete"))
        refused += 1
        (root / file).unlink()
        for stage in earlier(system, name):
            again = run(stage, root, tmp_path / "log")
            assert again.status == 0, again.err
        assert same(root / file, whole.root / file)
        assert run(command(system, name), root, tmp_path / "log").status == 0
        whole.assert_finished(root, name)
    print(f"\n{system} {name} {damage.__name__}: {refused} files refused")


def earlier(system, name):
    """The stages before one, which make what is missing."""
    stages = list(SYSTEMS[system])
    return stages[: [stage.name for stage in stages].index(name)]


def inputs(system, name):
    """Files that stages before it have made, one of each folder and kind."""
    whole = reference(system, name)
    files = sorted(file for stage in earlier(system, name) for file in whole.made[stage.name])
    return {(file.parent, file.suffix): file for file in reversed(files)}.values()
