"""Grad-Cos of the CNN: cosines between loss gradients.

    python tda_cnn_scripts/grad_cos.py --task mnist3 --num_per_class 10

Reads   models/cnn2/mnist3_10pc/                     from train_cnn.py
Writes  results/cnn2_mnist3_10pc/scores/grad_cos/<seed>.nc
Takes   18 s on 2 CPU cores (ten seeds)
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import GradCos
from bayestda.experiments.stages.systems import Cnn

if __name__ == "__main__":
    run_script(__doc__, GradCos(Cnn))
