"""What reliable and unreliable scores look like: LOO of single train-test pairs, seed by seed.

    python analysis/figure_score_distributions.py [--experiment NAME ...]

Reads   results/<experiment>/scores/loo/, results/<experiment>/pairs/loo.nc (analysis/p_values.py)
Writes  results/<experiment>/figures/score_distributions.png

The eight pairs of smallest q-value and the eight of largest p-value, at most one a test image.
Takes about 2 s.
"""

import tda.interruption  # noqa: F401

from pathlib import Path

from tda import paths, statistics
from tda.analysis import independent_scores, main
from tda.experiments import Experiment
from tda.figures import exemplars, scores, sources, style

METHOD, NUM_PAIRS = "loo", 8


def analyse(experiment: Experiment) -> list[Path]:
    """Draw one experiment."""
    pairs = sources.read_pairs(experiment, METHOD)
    runs = statistics.run_means(independent_scores(experiment, METHOD)["score"]).rename(METHOD)
    groups = {
        "most reliable pairs (smallest q)": exemplars.most_reliable(pairs, NUM_PAIRS),
        "least reliable pairs (largest p)": exemplars.least_reliable(pairs, NUM_PAIRS),
    }
    figure = scores.score_distributions(runs, pairs, groups, style.title(experiment))
    return [style.save(paths.figure(experiment.name, "score_distributions"), figure)]


if __name__ == "__main__":
    main(__doc__, analyse)
