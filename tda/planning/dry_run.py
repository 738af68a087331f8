"""The jobs that Snakemake would start, read from its dry run: finished files do not count."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tda import paths
from tda.errors import UserError

HEAD = re.compile(r"^(?:local)?(?:rule|checkpoint) (?P<rule>.+):$")
FIELD = re.compile(r"^ {4}(?P<name>[a-z_]+): (?P<value>.*)$")
COMMAND, NO_COMMAND = "Shell command: ", "None"
MARK = re.compile(r" \((?:update|touch|temp|protected|pipe|service|directory)\)$")


@dataclass(frozen=True)
class Job:
    """A job of the order of work.

    Attributes:
        rule: its name.
        command: what a shell would get; "" for a target that only collects files.
        inputs, outputs: files; of outputs None: of no account.
    """

    rule: str
    command: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...] | None


def jobs_to_do(arguments: Sequence[str]) -> list[Job]:
    """Jobs that ``snakemake <arguments>`` would start now.

    Raises:
        UserError: Snakemake does not know the target, or refuses the flags.
    """
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", "--nocolor",
               "--quiet", "host", *arguments]  # fmt: skip
    own = {**os.environ, "TDA_ROOT": str(paths.root())}  # which may be relative to this folder
    done = subprocess.run(
        command, cwd=paths.REPOSITORY, env=own, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise UserError(
            f"snakemake {' '.join(arguments)} has no plan: {' '.join(said[-3:])[-600:]}. "
            "Give targets as to snakemake, for example: python analysis/plan.py cnn2_mnist3_10pc"
        )
    return parse(done.stdout)


def parse(text: str) -> list[Job]:
    """Jobs of the text of a dry run with ``--printshellcmds``."""
    found: list[dict] = []
    for line in text.splitlines():
        if head := HEAD.match(line):
            found.append({"rule": head["rule"], "command": []})
        elif found and line.startswith(COMMAND):
            command = line.removeprefix(COMMAND)
            found[-1]["command"] = [] if command == NO_COMMAND else [command]
        elif found and (field := FIELD.match(line)):
            found[-1][field["name"]] = field["value"]
    return [
        Job(each["rule"], " ".join(each["command"]), _files(each, "input"), _files(each, "output"))
        for each in found
    ]


def _files(fields: dict, name: str) -> tuple[Path, ...]:
    listed = fields.get(name, "")
    return tuple(Path(MARK.sub("", item)) for item in listed.split(", ") if item)


def predecessors(jobs: Sequence[Job]) -> list[tuple[int, ...]]:
    """Of every job those, by their place in the list, that make what it reads."""
    maker = {file: place for place, job in enumerate(jobs) for file in job.outputs or ()}
    return [
        tuple(sorted({maker[file] for file in job.inputs if file in maker} - {place}))
        for place, job in enumerate(jobs)
    ]
