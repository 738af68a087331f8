"""Is what is installed what was tested, byte by byte, and is it what the package index has?

    python -m tda.supply [--tools FOLDER]      (make verify)

Reads   req.txt, the versions that the tests ran with; req.lock, all that these need, with the
        SHA-256 of every file of each release, from the index; what is installed beside this Python
Tells   packages that are missing, of another version, or changed after they were installed; with
        the folder of uv and pip-audit also: hashes that the index no longer has, and releases with
        known vulnerabilities. The last two need the network, and say so where there is none.
"""

import argparse
import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from tda import paths
from tda.errors import UserError, guarded

REQUIRED, LOCK = paths.REPOSITORY / "req.txt", paths.REPOSITORY / "req.lock"
EXPLAINED: dict[str, str] = {}  # vulnerabilities that do not matter here, each with the reason
UNLOCKED = ("pip", "setuptools", "tda", "wheel")  # not in what uv locks
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
_SECONDS = 300


@dataclass(frozen=True)
class Locked:
    """A release: its version, and the hashes of its files."""

    version: str
    hashes: frozenset[str]


def normal(name: str) -> str:
    """A package's name as the index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    """Versions by package of a requirements file."""
    return {normal(name): version for name, version in _PIN.findall(_text(path))}


def locked(path: Path) -> dict[str, Locked]:
    """Releases of a lock file.

    Raises:
        UserError: one has no hash.
    """
    parts = re.split(r"\n(?=[A-Za-z0-9])", _text(path))
    found = {}
    for part in parts:
        pin = _PIN.match(part)
        hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", part))
        if not pin or not hashes:
            raise UserError(f"{path} has no pin with hashes in {part[:60]!r}: {_RELOCK}")
        found[normal(pin[1])] = Locked(pin[2], hashes)
    return found


def unlocked(required: dict[str, str], lock: dict[str, Locked]) -> list[str]:
    """What ``req.txt`` asks for and the lock file has not."""
    return [
        f"req.txt asks for {name} {version}, req.lock has "
        f"{lock[name].version if name in lock else 'none'}: {_RELOCK}"
        for name, version in required.items()
        if name not in UNLOCKED and (name not in lock or lock[name].version != version)
    ]


def wrong_versions(lock: dict[str, Locked], required: dict[str, str]) -> list[str]:
    """What is installed in another version, and what is asked for and missing."""
    there = {normal(own.name): own.version.partition("+")[0] for own in distributions()}
    wrong = [
        f"{name} {there[name]} is installed, req.lock has {own.version}: {_INSTALL}"
        for name, own in lock.items()
        if there.get(name, own.version) != own.version
    ]
    return wrong + [f"{name} is missing: {_INSTALL}" for name in required if name not in there]


def changed_files(distribution: Distribution) -> Iterator[str]:
    """Files that are not those that were installed, by the distribution's own record."""
    for file in distribution.files or ():
        if file.hash is None or file.suffix == ".pyc":
            continue
        path = Path(str(file.locate()))
        digest = hashlib.new(file.hash.mode, path.read_bytes()).digest() if path.exists() else b""
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            yield f"{path} is not as it was installed: {_INSTALL}"


def withdrawn(lock: dict[str, Locked], index: dict[str, Locked]) -> list[str]:
    """Hashes that the index does not have (any more); files that it has since are no matter."""
    return [
        f"the index has other files of {name} {own.version} than req.lock: do not install it"
        for name, own in lock.items()
        if name not in index or not own.hashes <= index[name].hashes
    ]


def vulnerable(report: dict) -> tuple[list[str], int]:
    """Vulnerabilities without an explanation in a report of pip-audit, and packages looked up."""
    audited = [own for own in report["dependencies"] if "vulns" in own]
    found = [
        f"{own['name']} {own['version']} has {known['id']}: take another version, or explain it "
        "in EXPLAINED of tda/supply.py"
        for own in audited
        for known in own["vulns"]
        if known["id"] not in EXPLAINED
    ]
    return found, len(audited)


def _text(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path} is missing: restore it with `git checkout {path.name}`")
    return path.read_text()


def _of_index(tools: Path, lock: dict[str, Locked]) -> list[str]:
    """Ask the index by ``uv`` for the hashes of what is locked."""
    command = [tools / "uv", "pip", "compile", REQUIRED, "--constraint", LOCK, *_COMPILE, "--quiet"]
    done = _called(command)
    if done.returncode:
        print(f"not compared with the index: {_last_line(done)}")
        return []
    answer = tools / "index.lock"
    answer.write_text(done.stdout)
    wrong = withdrawn(lock, locked(answer))
    print(f"compared with the index: the hashes of {len(lock)} releases")
    return wrong


def _of_audit(tools: Path) -> list[str]:
    """Ask ``pip-audit`` for known vulnerabilities."""
    options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    done = _called([tools / "pip-audit", "--requirement", LOCK, *options])
    try:
        found, audited = vulnerable(json.loads(done.stdout))
    except (ValueError, KeyError):
        print(f"not audited: {_last_line(done)}")
        return []
    print(
        f"audited by pip-audit: {audited} releases"
        if audited
        else "not audited: the service that knows vulnerabilities cannot be reached from here"
    )
    return found


def _called(command: list) -> subprocess.CompletedProcess:
    words = [str(word) for word in command]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


def _last_line(done: subprocess.CompletedProcess) -> str:
    return (done.stderr.strip().splitlines() or ["no answer"])[-1]


_COMPILE = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header",
            "--no-annotate"]  # fmt: skip
_RELOCK = "make it anew with `make lock`"
_INSTALL = "install it again by `pip install --require-hashes -r req.lock`"


def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tools", type=Path, metavar="FOLDER", help="where uv and pip-audit are")
    tools = parser.parse_args().tools
    lock, required = locked(LOCK), pins(REQUIRED)
    own = [found for found in distributions() if normal(found.name) in lock]
    wrong = unlocked(required, lock) + wrong_versions(lock, required)
    wrong += [line for distribution in own for line in changed_files(distribution)]
    print(f"compared with req.lock and their records: {len(own)} installed packages")
    if tools:
        wrong += _of_index(tools, lock) + _of_audit(tools)
    for line in wrong[1:]:
        print(f"error: {line}", file=sys.stderr)
    if wrong:
        raise UserError(wrong[0])


if __name__ == "__main__":
    guarded(_main)
