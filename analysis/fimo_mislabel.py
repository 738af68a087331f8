"""Which methods find the mislabelled examples?

    python analysis/fimo_mislabel.py [--task NAME ...]

Reads   results/fimo_<task>/mislabelled/    from tda_fimo_scripts/mislabel.py
Writes  results/fimo_<task>/mislabel.csv, figures/mislabel.png

There is a row per method, damping and epoch. Examples are ranked by the harm that they do to test
points on average. The value is the area under the curve with which this tells flipped labels from
right ones: a mean over trials with a 95 % interval. ``choice`` = best marks each method's largest
mean, chosen by looking.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.figures import fimo
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.final_results import check_alike, main, write_table
from bayestda.plots import style
from bayestda.statistics.ground_truth import area_under_curve
from bayestda.statistics.intervals import t_interval

SETTING = ["method", "damping", "epoch"]


def analyse(models: FinalModels) -> Iterator[Path]:
    """Write the table and the figure of one task."""
    trials = read(models)
    table = areas(trials)
    best = table.groupby("method")["value"].idxmax()
    table["choice"] = table.index.isin(best).astype(object)
    table["choice"] = table["choice"].map({True: "best", False: "all"})
    yield write_table(models, "mislabel", table)
    heading = f"{models.task} · {trials.sizes['seed']} trials, 20 % of the labels flipped"
    figure = fimo.detection(table[table["choice"] == "best"], heading)
    yield style.save(paths.figure(models.name, "mislabel"), figure)


def read(models: FinalModels) -> xr.Dataset:
    """Read all trials along a dim ``seed``.

    Raises:
        UserError: There are none, or they do not belong together.
    """
    made_by = command(models)
    files = sorted(paths.mislabelled(models.name, "x").parent.glob("[!.]*.nc"))
    if not files:
        raise UserError(f"{models.name} has no mislabelled examples yet: run `{made_by}`")
    trials = [results.open_scores(file, made_by).isel(train_seed=0) for file in files]
    made = [results.settings_of(trial) for trial in trials]
    for own in made:  # of each trial: its labels are flipped after the data were read
        own["data_hash"] = own.get("data_hash", "").partition("-flipped-")[0]
    check_alike(dict(zip(files, made, strict=True)), made_by, "train_seed")
    return xr.concat(trials, dim="seed", join="exact")


def command(models: FinalModels) -> str:
    """Return the command that makes the trials."""
    return f"python {models.script('mislabel')} {models.flags}"


def areas(trials: xr.Dataset) -> pd.DataFrame:
    """Return a row for each method in each setting."""
    harm = -trials["score"].transpose("seed", "row", "left_out")
    area = xr.DataArray(
        area_under_curve(harm.values, trials["flipped"].values), dims=("seed", "row")
    )
    interval = t_interval(area)
    table = trials[SETTING].to_dataframe().reset_index()[SETTING]
    ends = {"value": interval["mean"], "low": interval["low"], "high": interval["high"]}
    return table.assign(**ends, num_trials=trials.sizes["seed"])


def has_results(models: FinalModels) -> bool:
    """Tell whether there is a trial."""
    return any(paths.mislabelled(models.name, "x").parent.glob("[!.]*.nc"))


if __name__ == "__main__":
    main(__doc__, analyse, has_results, command)
