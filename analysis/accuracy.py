"""Accuracy of the posterior's models on training and test images.

    python analysis/accuracy.py [--experiment NAME ...]

Reads   results/<experiment>/predictions/
Writes  results/<experiment>/accuracy.csv

A row is the mean over seeds of each run's accuracy, which is itself the mean over the run's
checkpoints. The interval is Student's 95 % interval over seeds. It is not cut off at 0 or 1.
Takes 2 s.
"""

from pathlib import Path

import pandas as pd

from bayestda import statistics
from bayestda.experiments.analysis import independent_predictions, main
from bayestda.experiments.grid import Experiment
from bayestda.experiments.results import write_table


def analyse(experiment: Experiment) -> list[Path]:
    """Write the table of one experiment."""
    predictions = independent_predictions(experiment)
    rows = []
    for split in ("train", "test"):
        logits, labels = predictions[f"{split}_logit"], predictions[f"{split}_label"]
        accuracy = statistics.run_means(statistics.accuracy(logits, labels, split))
        interval = statistics.t_interval(accuracy)
        rows.append(
            {
                "split": split,
                "accuracy": float(interval["mean"]),
                "low": float(interval["low"]),
                "high": float(interval["high"]),
                "n_seeds": accuracy.sizes["seed"],
                "n_checkpoints": logits.sizes["checkpoint"],
                "n_images": logits.sizes[split],
            }
        )
    return [write_table(experiment, "accuracy", pd.DataFrame(rows))]


if __name__ == "__main__":
    main(__doc__, analyse)
