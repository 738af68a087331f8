"""MNIST3: margins without a class, without near-duplicates, and without as many random images.

    python tda_distributional_scripts/mnist3_groups.py [--runs 30]

CNN2 on 30 images. A cluster of near-duplicates is an image and its three nearest neighbours in
pixels within its class, the tightest of each class. Predicted by summed shifts of the horizon
filter, and retrained with the same seeds.

Reads   data/mnist3/
Writes  results/distributional_mnist3_groups/samples.nc
Takes   58 s of CPU time, on one core
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.distributional import Samples

if __name__ == "__main__":
    run_script(__doc__, Samples("mnist3_groups", runs=30))
