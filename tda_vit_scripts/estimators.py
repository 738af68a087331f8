"""Every estimator of the ViT, and models trained on random halves: what analysis compares.

    python tda_vit_scripts/estimators.py --model vit_small --task mnist3 --num_per_class 10

Reads   models/vit_small/mnist3_10pc/                     from finetune_vit_lora.py
Writes  results/vit_small_mnist3_10pc/estimators/<seed>.nc
Takes   2.7 minutes of CPU time (ten seeds), on cores that are shared 4 minutes
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import Estimators
from bayestda.experiments.stages.systems import VitLora

if __name__ == "__main__":
    run_script(__doc__, Estimators(VitLora))
