"""What the released code's choices change in numbers (docs/deviations.md).

    python analysis/deviations.py [--experiment NAME ...]

Reads   results/<experiment>/scores/: the five methods, and the published variants, made by
            tda_cnn_scripts/loo.py --variant published
            tda_cnn_scripts/ats.py --optimizer sgd
            tda_cnn_scripts/influence.py --solver lissa
Writes  results/<experiment>/deviations.csv
Takes 6 s.

There are three kinds of rows:
- Pearson correlations between the mean scores of two variants over all pairs, and between single
  runs of the same seed, with 95 % jackknife intervals over seeds;
- the mean p of a variant under Student's t and under the published statistic;
- the share of the sum of squares of LOO scores that is common to all training examples of a test
  image (``common_share``). Training on for another run causes it, whichever example is left out.
"""

from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda import statistics
from bayestda.experiments.analysis import comparable_scores, main
from bayestda.experiments.grid import Experiment
from bayestda.experiments.results import write_table

COMPARED = (
    ("loo", "loo_published"),
    *((method, loo) for method in ("grad_dot", "influence") for loo in ("loo", "loo_published")),
    ("influence_lissa", "grad_dot"),
    ("influence_lissa", "influence"),
    ("influence_lissa", "loo"),
    ("ats", "ats_sgd"),
    *((ats, other) for ats in ("ats", "ats_sgd") for other in ("grad_dot", "loo")),
)
TESTED = ("loo", "loo_published", "ats", "ats_sgd", "influence", "influence_lissa", "grad_dot",
          "grad_cos")  # fmt: skip


def analyse(experiment: Experiment) -> list[Path]:
    """Write the table of one experiment."""
    runs = {
        method: statistics.run_means(dataset["score"])
        for method, dataset in comparable_scores(experiment, TESTED).items()
    }
    table = pd.concat(
        [compared(runs, a, b) for a, b in COMPARED]
        + [tested(method, scores) for method, scores in runs.items()]
        + [common_share(method, runs[method]) for method in ("loo", "loo_published")]
    )
    table = table.assign(n_seeds=runs["loo"].sizes["seed"])
    return [write_table(experiment, "deviations", table)]


def compared(runs: dict[str, xr.DataArray], a: str, b: str) -> pd.DataFrame:
    """Compute the correlations between two variants."""
    table = statistics.agreement(runs[a], runs[b])
    table = table[table["quantity"].isin(("correlation", "same_seed"))]
    return table.assign(a=a, b=b)[["a", "b", "quantity", "value", "low", "high"]]


def tested(method: str, scores: xr.DataArray) -> pd.DataFrame:
    """Compute the mean p-values of one variant, and what they would be if no pair had an effect."""
    num_seeds = scores.sizes["seed"]
    values = {
        "mean_p": float(statistics.student_t(scores)["p"].mean()),
        "mean_p_under_h0": 0.5,
        "mean_published_p": float(statistics.published_p(scores).mean()),
        "mean_published_p_under_h0": statistics.expected_published_p(num_seeds),
    }
    return pd.DataFrame({"a": method, "quantity": list(values), "value": list(values.values())})


def common_share(method: str, scores: xr.DataArray) -> pd.DataFrame:
    """Compute the share of the sum of squares that does not depend on the training example."""
    common = scores.mean("train").broadcast_like(scores)
    share = float((common**2).sum() / (scores**2).sum())
    return pd.DataFrame({"a": [method], "quantity": ["common_share"], "value": [share]})


if __name__ == "__main__":
    main(__doc__, analyse)
