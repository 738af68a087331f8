"""CIFAR-10: is a network better off without its least helpful images, and does averaging find them?

    python tda_distributional_scripts/cifar10_pruning.py [--runs 10]

CNN2 on 100 images. Runs score all images by the summed loss of 100 validation images (the horizon
filter). The tenth to the half that is least helpful is removed: by the scores of a single run, by
their mean over runs, or at random; as many runs of other seeds are trained without, the i-th with
the choice of single run i and the random choice i. Removed images have weight 0, so that all runs
take the same steps. Loss and accuracy are of 400 test images that no score has seen.

Reads   data/cifar10/
Writes  results/distributional_cifar10_pruning/samples.nc
Takes   4 min 16 s on one core
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.distributional import Samples

if __name__ == "__main__":
    run_script(__doc__, Samples("cifar10_pruning", runs=10))
