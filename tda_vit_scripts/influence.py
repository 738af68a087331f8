"""Influence functions of the ViT: exact damped Gauss-Newton, several dampings at once.

    python tda_vit_scripts/influence.py --model vit_small --task mnist3 --num_per_class 10

Reads   models/vit_small/mnist3_10pc/                    from finetune_vit_lora.py
Writes  results/vit_small_mnist3_10pc/scores/influence/<seed>.nc
Takes   40 s on 2 CPU cores (ten seeds), with --also grad_dot grad_cos
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import Influence
from bayestda.experiments.stages.systems import VitLora

if __name__ == "__main__":
    run_script(__doc__, Influence(VitLora))
