"""Which estimator predicts retraining? Leave-one-out, and models trained on random halves.

    python analysis/ground_truth.py [--experiment NAME ...]

Reads   results/<experiment>/scores/{loo,ats}/    from loo.py, ats.py
        results/<experiment>/estimators/          from estimators.py
Writes  results/<experiment>/ground_truth.csv, ground_truth_held_out.csv,
        ground_truth_differences.csv, figures/ground_truth.png

ground_truth.csv has a row per estimator, metric and scope, with the columns of `tda.evaluate`.
Metrics are the correlation of mean scores over seeds with mean LOO (pearson, spearman) and the
linear datamodelling score (lds). Scopes are all_pairs, per_test and within_labels (scores less
their mean over all pairs with the same two labels). Each has 95 % intervals over seeds and over
test points, and the ceiling that the truth's own noise sets. ``cross_half_corrected`` never looks
at the seeds that it is judged on. Points of the curves over damping λ and horizon τ = 1/λ have a
``damping``; ``matched_damping`` is 1/τ of the training (bayestda/training/horizon.py), mean over
seeds and checkpoints.

Held out: Pearson's correlation, over all pairs, of mean scores and mean LOO of one half of the
seeds. Damping or horizon (``influence``, ``flow``) is chosen on the other half. The value is a mean
over all splits, beside the ceiling of half of the seeds. The differences are paired
(`tda.compare`), with Holm's correction.
Takes 3 minutes on one busy core for 10 seeds, 38 estimators and 30 x 900 pairs.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

import bayestda as tda
from bayestda import statistics
from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.analysis import check_same_checkpoints, independent_scores, main
from bayestda.experiments.figures import names
from bayestda.experiments.figures.ground_truth import ground_truth
from bayestda.experiments.grid import ORIGIN, Experiment
from bayestda.experiments.results import write_table
from bayestda.plots import style
from bayestda.statistics.reliability import spearman_brown


def analyse(experiment: Experiment) -> list[Path]:
    """Write the tables and the figure of one experiment."""
    retrained = independent_scores(experiment, "loo")
    loo, found = statistics.run_means(retrained["score"]), estimators(experiment, retrained)
    scores = {
        str(name): found["score"].sel(estimator=name, drop=True)
        for name in found["estimator"].values
    }
    if "ats" in results.methods_with_scores(experiment.name):
        ats = independent_scores(experiment, "ats")
        check_same_checkpoints(experiment, {"estimators": found, "ats": ats})
        scores["ats"] = statistics.run_means(ats["score"])
    truths = {"": loo}
    if "loss" in found:
        truths["lds"] = found[["loss"]].assign(included=found["included"])
    named = {name: s for name, s in scores.items() if curve_point(name)[1] is None}
    table = pd.concat(
        [tda.evaluate(scores, truth) for truth in truths.values()] + [within_labels(named, loo)]
    )
    differences = pd.concat([tda.compare(named, truth) for truth in truths.values()])
    table = with_curves(table, float(found["horizon"].mean()))
    judged = held_out(scores, loo)
    heading = f"{names.title(experiment)} · n = {loo.sizes['seed']} seeds"
    return [
        write_table(experiment, "ground_truth", table),
        write_table(experiment, "ground_truth_held_out", judged),
        write_table(experiment, "ground_truth_differences", differences),
        style.save(paths.figure(experiment.name, "ground_truth"), ground_truth(table, heading)),
    ]


def estimators(experiment: Experiment, retrained: xr.Dataset) -> xr.Dataset:
    """Read scores and losses of the runs that were retrained.

    Raises:
        UserError: A run's file is missing or damaged, or of another training than LOO.
    """
    command = results.Command(experiment, "estimators")
    shared, truth = (*experiment.settings(), *ORIGIN), results.settings_of(retrained)
    runs, posteriors = [], {}
    for seed in retrained["seed"].values:
        file = paths.estimators(experiment.name, str(seed))
        runs.append(results.open_scores(file, command))
        settings = results.settings_of(runs[-1])
        if any(settings.get(key) != truth.get(key) for key in shared):
            raise UserError(
                f"{file} and the scores of loo are of other data or another training: delete the "
                "older ones and run their stages again"
            )
        posteriors[str(seed)] = settings.get("posterior")
    joined = xr.concat(
        runs, dim="seed", combine_attrs="override", join="exact", data_vars="minimal"
    )
    return joined.assign_attrs(posteriors=posteriors)


def held_out(scores: Mapping[str, xr.DataArray], loo: xr.DataArray) -> pd.DataFrame:
    """Judge each estimator on halves of the seeds that did not choose its damping."""
    families: dict[str, dict[float | None, xr.DataArray]] = {}
    for name, own in scores.items():
        kind, damping = curve_point(name)
        families.setdefault(kind if damping else name, {})[damping] = own
    split_half = statistics.reliability(loo).set_index("quantity")["value"]["split_half"]
    num_seeds = loo.sizes["seed"]
    judging = spearman_brown(split_half, num_seeds - num_seeds // 2, num_seeds // 2)
    rows = []
    for name, candidates in families.items():
        splits = statistics.chosen_on_other_half(candidates, loo)
        value = splits["value"]
        rows.append(
            {
                "method": name,
                "value": value.mean(),
                "lowest": value.min(),
                "highest": value.max(),
                "most_chosen_damping": Counter(splits["chosen"]).most_common(1)[0][0],
                "n_splits": len(splits),
            }
        )
    return pd.DataFrame(rows).assign(ceiling=max(judging, 0) ** 0.5, n_seeds=num_seeds)


def within_labels(scores: Mapping[str, xr.DataArray], loo: xr.DataArray) -> pd.DataFrame:
    """Correlate with LOO what labels alone do not tell."""
    rest = {name: statistics.within_labels(own) for name, own in scores.items()}
    table = tda.evaluate(rest, statistics.within_labels(loo))
    chosen = table[(table["metric"] == "pearson") & (table["scope"] == "all_pairs")]
    return chosen.assign(scope="within_labels")


def with_curves(table: pd.DataFrame, horizon: float) -> pd.DataFrame:
    """Add to each row the curve that it is a point of."""
    points = [curve_point(name) for name in table["method"]]
    return table.assign(
        curve=[kind for kind, _ in points],
        damping=[damping for _, damping in points],
        matched_damping=1 / horizon,
    )


def curve_point(name: str) -> tuple[str, float | None]:
    """Return the estimator's kind, and λ (of a flow 1/τ) if it is a point of a curve."""
    kind, _, value = name.partition(" ")
    if not re.fullmatch(r"[\d.e+-]+", value):
        return kind, None
    return kind, 1 / float(value) if kind == "flow" else float(value)


if __name__ == "__main__":
    main(__doc__, analyse)
