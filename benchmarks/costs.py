"""What a unit of each stage's work costs: a slice of the stage's own code, in seconds of one core.

    python benchmarks/costs.py cnn2_mnist3_10pc             # one system: train, loo, ats, gradients
    python benchmarks/costs.py --results results            # of finished results, what they record
    python benchmarks/costs.py --analyses cnn2_mnist3_10pc  # tables and figures of finished results

Slices: the first run is trained, then examples are left out or stepped on one after the other until
two seconds have passed, of which the fastest counts, then all gradient methods score it. Counted is
CPU time of one thread. ``--results`` takes the ``seconds`` of finished score files instead: wall
time of one thread, of the run that took least, as others on a busy machine count what disturbed
them. Of two measurements of one thing the smaller stays; to measure anew, delete its row first.

Reads   data/<task>/; with --results or --analyses finished results
Writes  benchmarks/costs.csv, in which what was not measured stays
Takes   15 seconds (cnn2_mnist3_10pc) to 5 minutes (cnn2_cifar10_50pc) on one core
"""

import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import xarray as xr

from tda import paths
from tda.errors import UserError, guarded
from tda.experiments import Experiment
from tda.planning.commands import work_of
from tda.planning.costs import Cost, merged, read, write
from tda.stages import gradients, retraining, training
from tda.stages.context import Context, Options, forget
from tda.stages.runner import Stage, settle_process

ENOUGH_S = 2.0
MEMORY_GB = 2.0
ALSO = "--also grad_dot grad_cos"
ANALYSES = (
    "p_values", "variance", "reliability", "correlations", "accuracy", "damping",
    "figure_05_08_17_correlations", "figure_variance", "figure_reliability",
    "figure_score_distributions", "gallery", "summary",
)  # fmt: skip
COMPARISONS = (
    "figure_03_07_p_value_histograms", "figure_04_p_value_by_size",
    "figure_06_p_value_by_checkpoints",
)  # fmt: skip


def machine() -> str:
    """Processor and torch, as a row says where it was measured."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, torch {torch.__version__}"


def slices(experiment: Experiment) -> Iterator[tuple[str, str, str, float]]:
    """Stage, flags, unit and CPU seconds per unit of an experiment's first run."""
    yield "train", "", "run", _whole(training.Training(), experiment)
    yield "loo", "", "retraining", _each(retraining.LeaveOneOut(), experiment, 1, variant="scratch")
    yield "ats", "", "example", _each(retraining.AdditionalStep(), experiment, 0, optimizer="adam")
    flags = {"damping": gradients.DAMPINGS, "solver": "exact", "also": ("grad_dot", "grad_cos")}
    scores = gradients.GradientScores("influence")
    yield "influence", ALSO, "run", _whole(scores, experiment, **flags)


def _context(experiment: Experiment, **flags: object) -> Context:
    source = "" if experiment.family == "cnn" else experiment.source
    options = Options(
        jobs=1, memory_gb=MEMORY_GB, pretrained=source, method=tuple(sorted(flags.items()))
    )
    return Context(experiment, experiment.runs()[0], options)


def _whole(stage: Stage, experiment: Experiment, **flags: object) -> float:
    """CPU seconds of a whole run."""
    context = _context(experiment, **flags)
    return _cpu_s(lambda: stage.compute(context, range(1), context.chunk))


def _each(stage: Stage, experiment: Experiment, first: int, **flags: object) -> float:
    """CPU seconds of an item: the fastest of as many as take ``ENOUGH_S``, after a first one."""
    context = _context(experiment, loo_ids=None, **flags)
    taken: list[float] = []
    for item in range(first, stage.num_items(context)):
        items = range(item, item + 1)
        taken.append(_cpu_s(lambda items=items: stage.compute(context, items, context.chunk)))
        if sum(taken[1:]) > ENOUGH_S:
            break
    return min(taken[1:])


def _cpu_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measured(name: str) -> list[Cost]:
    """Costs of a system's stages, with everything written to a folder that is then removed."""
    experiment, before = Experiment.parse(name), os.environ.get("TDA_ROOT")
    settle_process()
    with TemporaryDirectory() as folder:
        os.environ["TDA_ROOT"] = folder
        try:
            forget()
            found = [_row(name, *each) for each in slices(experiment)]
        finally:
            os.environ.pop("TDA_ROOT")
            if before is not None:
                os.environ["TDA_ROOT"] = before
    return found


def _row(
    system: str, stage: str, flags: str, unit: str, seconds: float, clock: str = "cpu"
) -> Cost:
    nan = float("nan")
    return Cost(stage, system, flags, unit, "cpu", seconds, nan, clock, machine(), _command())


def _command() -> str:
    script = Path(sys.argv[0]).resolve()
    return shlex.join(["python", str(script.relative_to(paths.REPOSITORY)), *sys.argv[1:]])


def recorded(folder: Path) -> list[Cost]:
    """Costs that finished results record: of the fastest run."""
    found = defaultdict(list)
    for file in sorted(folder.glob("*/**/[!.]*.nc")):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        with xr.open_dataset(file, engine="h5netcdf") as result:
            attributes = dict(result.attrs)
        command = made_by(file.relative_to(folder), attributes)
        work = None if command is None else work_of(command)
        if work is not None:
            each = float(attributes["seconds"]) * len(work.items) / work.units
            found[work.system, work.stage, work.flags, work.unit].append(each)
    return [_row(*known, min(seconds), "wall") for known, seconds in sorted(found.items())]


def made_by(file: Path, attributes: dict) -> str | None:
    """The command of a stage's result; None for files that no stage of a run writes."""
    name, flags, kind = file.parts[0], str(attributes.get("flags", "")), file.parts[1]
    if name.startswith("fimo_"):
        return _made_by_final(kind, file.parts[2], flags)
    if kind not in ("predictions", "scores", "estimators"):
        return None
    experiment = Experiment.parse(name)
    stage = {"predictions": "train", "estimators": "estimators"}.get(kind, file.parts[2])
    if stage not in ("train", "estimators", "loo", "ats", "influence"):
        return None
    own = {"influence": ALSO, "estimators": _of_estimators(attributes)}.get(stage, "")
    return " ".join([experiment.script(stage), *own.split(), flags])


def _of_estimators(attributes: dict) -> str:
    settings = json.loads(attributes["settings"])
    subsets = f"--subsets {settings['subsets']}" if settings.get("subsets") else ""
    return f"{subsets} {'--ablations' if settings.get('ablations') else ''}"


def _made_by_final(kind: str, variant: str, flags: str) -> str | None:
    if kind == "predictions":
        return f"tda_fimo_scripts/train_final.py {flags}"
    own = {
        "sgd": "", "adam": "--optimizer adam", "adamw": "--optimizer adamw",
        "sgd_delete": "--leave_out delete", "scratch": "--start scratch",
    }  # fmt: skip
    if kind != "further" or variant not in own:
        return None
    return f"tda_fimo_scripts/further_train.py {flags} {own[variant]} --num_seeds 1"


def analyses(name: str) -> list[Cost]:
    """CPU seconds of the scripts under ``analysis/`` that a finished experiment's target needs."""
    with_name = {script: ["--experiment", name] for script in ANALYSES}
    rows = [_row("", "start", "", "process", _child_s("-c", "import tda.stages.retraining"))]
    for script, flags in {**with_name, **dict.fromkeys(COMPARISONS, [])}.items():
        path = paths.REPOSITORY / "analysis" / f"{script}.py"
        work = work_of(shlex.join([str(path), *flags]))
        assert work is not None
        rows.append(_row(work.system, script, "", work.unit, _child_s(str(path), *flags)))
    return rows


def _child_s(*arguments: str) -> float:
    """CPU seconds of a Python of its own."""
    before = _children_s()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}")
    return _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", help="names of experiments")
    parser.add_argument("--results", type=Path, help="a folder of finished results")
    parser.add_argument("--analyses", nargs="+", default=(), help="experiments that are finished")
    return parser.parse_args()


def _main() -> None:
    flags = _parse()
    torch.set_num_threads(1)
    for find, names in (
        (measured, flags.systems), (recorded, [flags.results] if flags.results else []),
        (analyses, flags.analyses),
    ):  # fmt: skip
        for name in names:
            costs = find(name)
            for cost in costs:
                print(f"{cost.stage} {cost.system} {cost.flags}: {cost.seconds:.4g} s/{cost.unit}")
            write(merged(read(), costs))


if __name__ == "__main__":
    guarded(_main)
