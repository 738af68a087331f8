"""Do images change the spread of a margin and not its mean? Screening, confirmation, prediction.

    python analysis/distributional_mnist3_spread.py

Reads   results/distributional_mnist3_spread/samples.nc  from tda_distributional_scripts/
Writes  results/distributional_mnist3_spread/pairs.csv, tests.csv, rates.csv, agreement.csv,
        .../figures/mnist3_spread.png

pairs.csv has a row per chosen pair of a removed image and a query, and per control at the same
query. The row gives a change with its 95 % interval over runs, by source and difference. Sources
are screened, filtered (by the horizon filter) and retrained (in runs of other seeds). Changes of
the mean are in standard deviations of the margin, those of the variance are shares of it, and those
of the lower tail are as they are.

tests.csv has the tests of the retrained runs (``tda.confirm_removals``), in the direction that the
screening found; p_holm is over the chosen pairs. rates.csv counts the chosen and control pairs with
p < .05, and has Fisher's exact test. agreement.csv has Spearman's correlation with the retrained
change over all queries of the retrained images, with a 95 % jackknife interval over images.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

import bayestda as tda
from bayestda.experiments import paths
from bayestda.experiments.figures import spread
from bayestda.experiments.stages.distributional import analyse_script, read, write_table
from bayestda.plots import style
from bayestda.statistics.intervals import fisher_z, jackknife_interval

NAME, LEVEL = "mnist3_spread", 0.05


def analyse() -> Iterator[Path]:
    """Write the tables and the figure."""
    samples = read(NAME).isel(checkpoint=0, drop=True)
    changed = {source: changes(samples, *sample) for source, sample in sources(samples).items()}
    pairs, screened = all_pairs(samples), changed["screened"]
    table = pd.concat(
        pairs.drop(columns="difference").merge(found, on=["train", "test"]).assign(source=source)
        for source, found in changed.items()
    )
    yield write_table(NAME, "pairs", table)
    tests = tested(samples, directed(pairs, screened))
    yield write_table(NAME, "tests", tests)
    yield write_table(NAME, "rates", rates(tests))
    yield write_table(NAME, "agreement", agreement(changed))
    figure = spread.pairs(samples, table, tests)
    yield style.save(paths.figure(f"distributional_{NAME}", NAME), figure)


def sources(samples: xr.Dataset) -> dict[str, tuple[xr.DataArray, xr.DataArray]]:
    """Return margins before removals and their changes, of the images that were retrained."""
    own = samples[["before", "retrained"]].rename(other_seed="seed", removed="train")
    own = own.drop_vars("control")
    removed = own["train"].values
    filtered = samples["filtered"].rename(filtered_seed="seed").sel(train=removed)
    shifts = (own["retrained"] - own["before"]).transpose("seed", "train", "test")
    return {
        "screened": (samples["measured"], samples["shift"].sel(train=removed)),
        "filtered": (samples["measured"].sel(seed=filtered["seed"].values), filtered),
        "retrained": (own["before"], shifts),
    }


def changes(samples: xr.Dataset, measured: xr.DataArray, shifts: xr.DataArray) -> pd.DataFrame:
    """Compute all differences by removal and query, in their units."""
    below = tda.tail(samples["threshold"].values)
    wanted = {"mean": "mean", "variance": "variance", "tail": below}
    unit = {"mean": measured.std("seed", ddof=1), "variance": measured.var("seed", ddof=1),
            "tail": -1.0}  # fmt: skip
    tables = []
    for name, difference in wanted.items():
        found = tda.distributional_influence(measured, shifts, difference) / unit[name]
        if name == "tail":
            found = found.rename(low="high", high="low")
        tables.append(found.to_dataframe()[["value", "low", "high"]].assign(difference=name))
    return pd.concat(tables).reset_index()


def all_pairs(samples: xr.Dataset) -> pd.DataFrame:
    """Return the chosen pairs, each followed by the controls at its query."""
    controls, rows = samples["removed"].values[samples["control"].values], []
    for pair in range(samples.sizes["pair"]):
        at = samples.isel(pair=pair)
        named = {"test": int(at["pair_test"]), "pair": pair,
                 "difference": str(at["pair_difference"].values)}  # fmt: skip
        named |= {"chosen_by": named["difference"], "eligible": bool(at["pair_eligible"])}
        rows.append({"train": int(at["pair_train"]), "role": "chosen", **named})
        rows += [{"train": int(image), "role": "control", **named} for image in controls]
    return pd.DataFrame(rows)


def directed(pairs: pd.DataFrame, screened: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with what the screening found, and its sign."""
    found = screened.rename(columns={"value": "screened"}).drop(columns=["low", "high"])
    joined = pairs.merge(found, on=["train", "test", "difference"], how="left")
    return joined.assign(direction=np.where(joined["screened"] < 0, -1.0, 1.0))


def tested(samples: xr.Dataset, pairs: pd.DataFrame) -> pd.DataFrame:
    """Test the pairs in the retrained runs, with Holm's correction among the chosen pairs."""
    measured, shifts = sources(samples)["retrained"]
    c = dict(zip(samples["test"].values.tolist(), samples["threshold"].values, strict=True))
    tables = [
        tda.confirm_removals(measured, shifts, own, thresholds=c)
        for _, own in pairs.groupby("role")
    ]
    table = pd.concat(tables)
    return table.assign(p_holm=table["p_holm"].where(table["role"] == "chosen"))


def rates(tests: pd.DataFrame) -> pd.DataFrame:
    """Count pairs that pass both tests, uncorrected, by role."""
    passed = tests.assign(passed=tests["p"] < LEVEL).groupby("role")["passed"].agg(["sum", "size"])
    counts = np.column_stack([passed["sum"], passed["size"] - passed["sum"]])
    p = stats.fisher_exact(counts, alternative="greater").pvalue  # chosen come first
    return passed.reset_index().assign(fisher_p=p)


def agreement(changed: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Compute how well screening and prediction rank what retraining in other runs changes."""
    index, rows = ["difference", "train", "test"], []
    truth = changed["retrained"].set_index(index)["value"]
    for source in ("screened", "filtered"):
        both = pd.DataFrame({"own": changed[source].set_index(index)["value"], "truth": truth})
        for difference, own in both.groupby("difference"):
            images = own.index.get_level_values("train")
            value = _spearman(own)
            without = [_spearman(own[images != image]) for image in images.unique()]
            ends = jackknife_interval(fisher_z(value), [fisher_z(np.array(without))])
            rows.append({"source": source, "difference": difference, "spearman": value,
                         "low": np.tanh(ends.low), "high": np.tanh(ends.high),
                         "images": images.nunique(), "n": len(own)})  # fmt: skip
    return pd.DataFrame(rows)


def _spearman(values: pd.DataFrame) -> float:
    return float(values["own"].corr(values["truth"], method="spearman"))


if __name__ == "__main__":
    analyse_script(__doc__, analyse)
