"""What reliable and unreliable scores look like: LOO of single train-test pairs, seed by seed.

    python analysis/figure_score_distributions.py [--experiment NAME ...]

Reads   results/<experiment>/scores/loo/, results/<experiment>/pairs/loo.nc (analysis/p_values.py)
Writes  results/<experiment>/figures/score_distributions.png

The eight pairs of smallest q-value and the eight of largest p-value, at most one a test image.
Takes about 2 s.
"""

from pathlib import Path

from bayestda import statistics
from bayestda.experiments import paths
from bayestda.experiments.analysis import independent_scores, main
from bayestda.experiments.figures import names, read_tables
from bayestda.experiments.grid import Experiment
from bayestda.plots import scores, style
from bayestda.plots.pairs import least_reliable, most_reliable

METHOD, NUM_PAIRS = "loo", 8


def analyse(experiment: Experiment) -> list[Path]:
    """Draw one experiment."""
    pairs = read_tables.read_pairs(experiment, METHOD)
    runs = statistics.run_means(independent_scores(experiment, METHOD)["score"]).rename(METHOD)
    groups = {
        "most reliable pairs (smallest q)": most_reliable(pairs, NUM_PAIRS),
        "least reliable pairs (largest p)": least_reliable(pairs, NUM_PAIRS),
    }
    figure = scores.score_distributions(runs, pairs, groups, names.title(experiment))
    return [style.save(paths.figure(experiment.name, "score_distributions"), figure)]


if __name__ == "__main__":
    main(__doc__, analyse)
