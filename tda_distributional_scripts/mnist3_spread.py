"""MNIST3: images whose removal changes the spread of a margin, or its tail, and not its mean.

    python tda_distributional_scripts/mnist3_spread.py [--runs 150] [--retrained 500]

CNN2 on 30 images, margins of 60 queries. *Screening*: the runs are retrained without each image.
Of the 1,800 pairs of an image and a query, three are chosen for the variance and three for the
lower tail (below the tenth of the runs). Eligible first: q < .05 (of :func:`tda.rank_removals`) and
a mean that is within ± .05 standard deviations by one standard error; of these, those whose 95 %
interval of the change ends farthest from zero, of a variance as a share of it. No image or query
twice in three, no pair twice in six.
*Confirmation*: 500 runs of other seeds, with all images, without those chosen, and without five
random others, from the same initialisations. Nothing is chosen on them; the tests are in
analysis/distributional_mnist3_spread.py.

Power, worked out beforehand: a pilot of 60 runs had standard errors that make .018 to .055 of the
variance and .011 to .016 standard deviations of the mean with 500. At the level .05/6 of Holm's
first step a variance that changes by a fifth is then found with probability .89 or more, and a mean
that moves by .05 (0) standard deviations passes for unchanged with .77 (.99) or more.

Beside it the horizon filter's shifts in the first 40 runs: would a prediction have found them?

Reads   data/mnist3/
Writes  results/distributional_mnist3_spread/samples.nc
Takes   22 minutes of CPU time, on one core
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.distributional import Samples

if __name__ == "__main__":
    run_script(__doc__, Samples("mnist3_spread", runs=150, retrained=500))
