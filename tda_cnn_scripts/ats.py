"""Additional training step of the CNN: one more optimiser step on each training example.

    python tda_cnn_scripts/ats.py --task mnist3 --num_per_class 10

Reads   models/cnn2/mnist3_10pc/                     from train_cnn.py
Writes  results/cnn2_mnist3_10pc/scores/ats/<seed>.nc
Takes   1.3 minutes on 2 CPU cores (ten seeds)
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import Ats
from bayestda.experiments.stages.systems import Cnn

if __name__ == "__main__":
    run_script(__doc__, Ats(Cnn))
