"""Grad-Cos of the ViT: cosines between loss gradients.

    python tda_vit_scripts/grad_cos.py --model vit_small --task mnist3 --num_per_class 10

Reads   models/vit_small/mnist3_10pc/                    from finetune_vit_lora.py
Writes  results/vit_small_mnist3_10pc/scores/grad_cos/<seed>.nc
Takes   less than 40 s on 2 CPU cores (ten seeds)
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import GradCos
from bayestda.experiments.stages.systems import VitLora

if __name__ == "__main__":
    run_script(__doc__, GradCos(VitLora))
