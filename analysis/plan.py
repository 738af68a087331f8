"""What a target will cost before it starts: jobs to do, core-hours, GPU-hours, time on n cores.

    python analysis/plan.py cnn2_mnist3_50pc                  # what snakemake would do for it
    python analysis/plan.py paper --cores 64
    python analysis/plan.py paper_vit --gpus 8 --gpu H100
    python analysis/plan.py --config experiment=NAME -- NAME  # further flags go to snakemake

Reads   benchmarks/costs.csv, and the dry run of snakemake: what is finished does not count, nor do
        retrainings whose parts are there
Writes  nothing; prints a table, totals, and what has no measured cost
Takes   3 s for an experiment

Core-hours are measured costs per unit times units. GPU-hours are an estimate: FLOPs that were
counted, by a share of a GPU's peak that is assumed; nothing was timed on a GPU.
"""

import tda.interruption  # noqa: F401

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence

import pandas as pd

from tda.errors import guarded
from tda.flag_types import count
from tda.planning import costs
from tda.planning.dry_run import jobs_to_do
from tda.planning.gpus import ACHIEVED, PEAK_TFLOPS, Gpu
from tda.planning.plan import Priced, priced, table, unknown, wall_s


def report(plan: Sequence[Priced], cores: int, gpus: int) -> str:
    """The plan in words and a table."""
    rows = table(plan)
    lines = [] if rows.empty else [_shown(rows).to_string(index=False), ""]
    jobs = sum(1 for each in plan if each.job.command)
    sums = (f"{rows[name].sum():,.3g}" for name in ("core_h", "gpu_h"))
    lines.append(f"{jobs} jobs: {next(sums)} core-hours, {next(sums)} GPU-hours")
    for device, machines, name in (("cpu", cores, "core"), ("gpu", gpus, "GPU")):
        if any(each.device == device for each in plan):
            hours = _hours(wall_s(plan, machines, device) / 3600)
            lines.append(f"{hours} hours on {machines} {name}{'s' * (machines > 1)}")
    return "\n".join([*lines, *_unknown(plan)])


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    hours = {name: rows[name].map(_hours) for name in ("core_h", "gpu_h")}
    return rows.assign(**hours).rename(columns={"core_h": "core-hours", "gpu_h": "GPU-hours"})


def _hours(hours: float) -> str:
    return "unknown" if hours != hours else "" if not hours else f"{hours:,.3g}"


def _unknown(plan: Sequence[Priced]) -> list[str]:
    """A sentence for what has no measured cost."""
    missing = unknown(plan)
    if not missing:
        return []
    found: dict[str, int] = {}
    for each in missing:
        name, units = (each.work.title, each.work.units) if each.work else (each.job.rule, 1)
        found[name] = found.get(name, 0) + units
    named = "; ".join(f"{name} ({count:,})" for name, count in found.items())
    return [f"not in these sums, as no cost was measured: {named}"]


def _parse() -> tuple[Namespace, list[str]]:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=count, default=2, help="default: %(default)s")
    parser.add_argument("--gpus", type=count, default=1, help="default: %(default)s")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="", help="default: the CPU "
                        "where its cost was measured, else a GPU")  # fmt: skip
    parser.add_argument("--gpu", choices=tuple(PEAK_TFLOPS), default="A100")
    parser.add_argument("--achieved", type=float, default=ACHIEVED, metavar="SHARE",
                        help="of the GPU's peak, assumed; default: %(default)s")  # fmt: skip
    return parser.parse_known_args()


def _main() -> None:
    flags, for_snakemake = _parse()
    gpu = Gpu(flags.gpu, flags.achieved)
    jobs = jobs_to_do(["--cores", str(flags.cores), *for_snakemake])
    print(report(priced(jobs, costs.read(), gpu, flags.device), flags.cores, flags.gpus))


if __name__ == "__main__":
    guarded(_main)
