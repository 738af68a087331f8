"""A full disk, a quota, a read-only folder: one sentence, and nothing is half-written or lost."""

import shutil
import subprocess
from contextlib import contextmanager

import pytest
from commands import run
from hindrances import small_files, without_privileges
from stages import SOME, command, each, leftovers, reference, visible


def assert_refused(ended, reason):
    assert ended.status == 2, ended.err
    assert "Traceback" not in ended.err
    assert ended.last_line.startswith("error: cannot write ")
    assert reason in ended.last_line
    assert "run the same command again" in ended.last_line


@contextmanager
def small_disk(folder):
    """A file system in memory; skips where one may not be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(disk, kilobytes):
    size = f"remount,size={kilobytes}k"
    subprocess.run(["mount", "-o", size, str(disk)], check=True, capture_output=True)


def used_kilobytes(disk):
    return shutil.disk_usage(disk).used // 1024


@each([("analysis", "p_values")])
def test_a_full_disk(system, name, tmp_path):
    whole = reference(system, name)
    with small_disk(tmp_path / "disk") as disk:
        root = whole.before(name, disk / "root")
        sizes = [(whole.root / file).stat().st_size for file in whole.made[name]]
        resize(disk, max(4, used_kilobytes(disk) + (4 if min(sizes) > 8192 else 0)))  # 0: no limit
        assert_refused(
            run(command(system, name), root, tmp_path / "log"), "No space left on device"
        )
        whole.assert_whole(root)
        assert not list(root.rglob(".*.tmp"))
        resize(disk, 64 * 1024)
        again = run(command(system, name), root, tmp_path / "log")
        assert again.status == 0, again.err
        whole.assert_finished(root, name)


@each([("cnn", "train")], SOME)
def test_files_that_may_not_grow(system, name, tmp_path):
    whole = reference(system, name)
    if all((whole.root / file).stat().st_size <= 3000 for file in whole.made[name]):
        pytest.skip("this stage's files are smaller")
    root = whole.before(name, tmp_path / "root")
    ended = run(command(system, name).after(small_files), root, tmp_path / "log")
    assert_refused(ended, "File too large")
    whole.assert_whole(root)
    assert not list(root.rglob(".*.tmp"))
    assert run(command(system, name), root, tmp_path / "log").status == 0
    whole.assert_finished(root, name)


@each([("analysis", "p_values")])
def test_a_read_only_folder(system, name, tmp_path):
    whole = reference(system, name)
    root = whole.before(name, tmp_path / "root")
    there, folders = visible(root), [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        ended = run(command(system, name).after(without_privileges), root, tmp_path / "log")
        assert_refused(ended, "Permission denied")
        assert (visible(root), leftovers(root)) == (there, [])
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert run(command(system, name), root, tmp_path / "log").status == 0
    whole.assert_finished(root, name)
