"""Every estimator of the CNN, and models trained on random halves: what analysis compares.

    python tda_cnn_scripts/estimators.py --task mnist3 --num_per_class 10 --subsets 100 --ablations

Reads   models/cnn2/mnist3_10pc/                     from train_cnn.py
Writes  results/cnn2_mnist3_10pc/estimators/<seed>.nc
Takes   25 minutes of CPU time (ten seeds)
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import Estimators
from bayestda.experiments.stages.systems import Cnn

if __name__ == "__main__":
    run_script(__doc__, Estimators(Cnn))
