"""Posterior samples of a CNN: runs that differ in their seeds, and each run's last five epochs.

    python train_cnn.py --task mnist3 --num_per_class 10

Reads   data/mnist3/                                 images and index lists
Writes  models/cnn2/mnist3_10pc/<seed>/epoch_*.safetensors
        results/cnn2_mnist3_10pc/predictions/<seed>.nc
Takes   10 s on 2 CPU cores (ten seeds)
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import Train
from bayestda.experiments.stages.systems import Cnn

if __name__ == "__main__":
    run_script(__doc__, Train(Cnn))
