"""Which damping is right after how much further training?

    python analysis/fimo_damping.py [--task NAME ...]

Reads   results/fimo_<task>/agreement.csv    from analysis/fimo_agreement.py
Writes  results/fimo_<task>/damping.csv, figures/damping_<method>.png

Cosine with further training by SGD (full adjustment) over damping and horizon ηT. A ridge of
λ = 1/(ηT) is close to T steps of gradient descent; the figure has it as a line.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.figures import fimo
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.final_results import main, read_further, write_table
from bayestda.plots import style

COLUMNS = ["method", "damping", "epoch", "horizon", "value", "se_test", "low", "high"]


def analyse(models: FinalModels) -> Iterator[Path]:
    """Write the table and a figure for each method with dampings."""
    path = paths.table(models.name, "agreement")
    if not path.exists():
        raise UserError(f"{path} is missing: run `python analysis/fimo_agreement.py`")
    table = pd.read_csv(path)
    horizons = read_further(models)["horizon"].to_series()
    table = table.query(
        "choice == 'all' and variant == 'sgd' and adjustment == 'full' and metric == 'cosine'"
    )
    table = table.assign(horizon=table["step"].map(horizons))[COLUMNS]
    yield write_table(models, "damping", table)
    for method, rows in table.groupby("method"):
        if rows["damping"].nunique() > 5:
            figure = fimo.damping_by_horizon(rows, f"{models.task} · {method}")
            yield style.save(paths.figure(models.name, f"damping_{method}"), figure)


if __name__ == "__main__":
    main(__doc__, analyse)
