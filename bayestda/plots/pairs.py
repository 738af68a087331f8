"""Choose the train-test pairs that a figure shows."""

import pandas as pd
import xarray as xr


def most_reliable(pairs: xr.Dataset, count: int) -> list[tuple[int, int]]:
    """Return the pairs (train, test) of smallest q-value, at most one for each test image.

    Ties are broken by the p-value.

    Args:
        pairs: Variables p and q with dims (train, test).
        count: Number of pairs.
    """
    ranked = _finite_pairs(pairs).sort_values(["q", "p"], kind="stable")
    return _first_of_each_test(ranked, count)


def least_reliable(pairs: xr.Dataset, count: int) -> list[tuple[int, int]]:
    """Return the pairs (train, test) of largest p-value, at most one for each test image.

    Args:
        pairs: Variables p and q with dims (train, test).
        count: Number of pairs.
    """
    ranked = _finite_pairs(pairs).sort_values("p", ascending=False, kind="stable")
    return _first_of_each_test(ranked, count)


def _finite_pairs(pairs: xr.Dataset) -> pd.DataFrame:
    return pairs[["q", "p"]].reset_coords(drop=True).to_dataframe().dropna().reset_index()


def _first_of_each_test(ranked: pd.DataFrame, count: int) -> list[tuple[int, int]]:
    chosen = ranked.drop_duplicates("test").head(count)
    return [(int(row.train), int(row.test)) for row in chosen.itertuples()]
