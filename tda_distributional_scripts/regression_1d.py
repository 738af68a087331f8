"""One-dimensional regression in which the mean and W₂ name different examples.

    python tda_distributional_scripts/regression_1d.py [--runs 100]

Twenty noisy points of sin 2x, left and right of a gap, and one more in its middle, the anchor, just
where networks that never saw it are on average. Without it networks cross the gap in many ways, and
on average as with it: its removal widens the distribution of the output there and leaves its mean.
Shifts of every example by unrolled differentiation, and retraining without each of them.

Reads   nothing
Writes  results/distributional_regression_1d/samples.nc
Takes   36 s on one busy CPU core
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.distributional import Samples

if __name__ == "__main__":
    run_script(__doc__, Samples("regression_1d", runs=100))
