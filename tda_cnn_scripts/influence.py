"""Influence functions of the CNN: exact damped Gauss-Newton, several dampings at once.

    python tda_cnn_scripts/influence.py --task mnist3 --num_per_class 10

Reads   models/cnn2/mnist3_10pc/                     from train_cnn.py
Writes  results/cnn2_mnist3_10pc/scores/influence/<seed>.nc
Takes   27 s on 2 CPU cores (ten seeds), with --also grad_dot grad_cos
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import Influence
from bayestda.experiments.stages.systems import Cnn

if __name__ == "__main__":
    run_script(__doc__, Influence(Cnn))
