"""Do the methods agree? Correlations between their means, noise, p-values.

    python analysis/correlations.py [--experiment NAME ...]

Reads   results/<experiment>/scores/<method>/
Writes  results/<experiment>/correlations.csv

There is a row per pair of methods, statistic, kind (pearson, spearman) and scope. Scope all_pairs
is over all train-test pairs; per_test is over training points, averaged over test points. The 95 %
intervals are from a half-sample bootstrap over the seeds that both methods have. Statistics over
seeds are mean, std, p (Student's t), and signal_to_noise. The last is the signed mean/std, which
the released code's "p-value" matrices correlate.
Positive: both methods find the same examples helpful.
Takes 12 s for 10 seeds, 30 x 900 pairs and eight methods.
"""

from pathlib import Path

from bayestda import statistics
from bayestda.errors import UserError
from bayestda.experiments.analysis import comparable_scores, main, methods
from bayestda.experiments.grid import Experiment
from bayestda.experiments.results import write_table


def analyse(experiment: Experiment) -> list[Path]:
    """Write the table of one experiment."""
    scores = {
        method: statistics.run_means(dataset["score"])
        for method, dataset in comparable_scores(experiment, methods(experiment)).items()
    }
    table = statistics.correlations(scores)
    if table.empty:
        raise UserError(
            f"{experiment.name} has no two methods with two seeds in common (it has "
            f"{', '.join(scores)}): make more with the scripts in {experiment.family.scripts}/"
        )
    return [write_table(experiment, "correlations", table)]


if __name__ == "__main__":
    main(__doc__, analyse)
