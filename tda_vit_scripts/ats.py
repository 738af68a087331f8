"""Additional training step of the ViT: one more optimiser step on each training example.

    python tda_vit_scripts/ats.py --model vit_small --task mnist3 --num_per_class 10

Reads   models/vit_small/mnist3_10pc/                    from finetune_vit_lora.py
Writes  results/vit_small_mnist3_10pc/scores/ats/<seed>.nc
Takes   4 minutes on 2 CPU cores (ten seeds)
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import Ats
from bayestda.experiments.stages.systems import VitLora

if __name__ == "__main__":
    run_script(__doc__, Ats(VitLora))
