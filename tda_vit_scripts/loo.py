"""Leave-one-out retraining of the ViT: the ground truth.

    python tda_vit_scripts/loo.py --model vit_small --task mnist3 --num_per_class 10

Reads   data/mnist3/, models/vit_small/            images, index lists, pretrained weights
Writes  results/vit_small_mnist3_10pc/scores/loo/<seed>.nc
Takes   4 minutes on 2 CPU cores (ten seeds)
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import Loo
from bayestda.experiments.stages.systems import VitLora

if __name__ == "__main__":
    run_script(__doc__, Loo(VitLora))
