"""Rows of tabular files as numbers: codes are replaced, and rows chosen."""

import numpy as np
import pandas as pd

ACS_INCOME = ("AGEP", "COW", "SCHL", "MAR", "OCCP", "POBP", "RELP", "WKHP", "SEX", "RAC1P")
ACS_COLUMNS = (*ACS_INCOME, "PINCP", "PWGTP")  # what is kept of a census file


def clean_heloc(rows: pd.DataFrame) -> pd.DataFrame:
    """Recode FICO's home equity lines (Wei et al. 2025, appendix); 1 is Good.

    Rows that are −9 throughout are dropped; "never" is recoded beyond the longest time (and
    −7 of the last inquiry, "not within 7 days", to 0). What is left of −8 and −9 stays, for
    :func:`filled`.
    """
    if "RiskPerformance" in rows:
        rows = rows.assign(RiskPerformance_Bad=(rows["RiskPerformance"] == "Bad").astype(int))
    features = rows.drop(columns=["RiskPerformance_Bad", "RiskPerformance"], errors="ignore")
    features = features[(features != -9).any(axis=1)].astype(float)
    delinquency, inquiry = "MSinceMostRecentDelq", "MSinceMostRecentInqexcl7days"
    beyond = {name: features[name].max() + 1 for name in (delinquency, inquiry)}
    features[delinquency] = features[delinquency].replace(-7, beyond[delinquency])
    features[inquiry] = features[inquiry].replace({-7: 0, -8: beyond[inquiry]})
    record = "MaxDelq2PublicRecLast12M"
    features[record] = features[record].clip(upper=7)
    return features.assign(Good=1 - rows["RiskPerformance_Bad"])


def clean_folktables(rows: pd.DataFrame) -> pd.DataFrame:
    """Choose the persons of a census file that ACSIncome is about (Ding et al. 2021).

    Older than 16, with an income above 100 dollars, working hours, and a weight; the class is
    whether the income exceeds 50,000 dollars.
    """
    asked = (rows["AGEP"] > 16) & (rows["PINCP"] > 100) & (rows["WKHP"] > 0) & (rows["PWGTP"] >= 1)
    chosen = rows.loc[asked, list(ACS_INCOME)].astype(float)
    return chosen.assign(high_income=(rows.loc[asked, "PINCP"] > 50_000).astype(int))


def filled(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Replace negative values by the mean of the training rows' non-negative ones, by column."""
    missing = values < 0
    known = np.where(missing, np.nan, values)
    return np.where(missing, np.nanmean(known[train], axis=0), values)
