"""Posterior samples of a ViT with LoRA: runs that differ in seeds, and their last five epochs.

    python finetune_vit_lora.py --model vit_small --task mnist3 --num_per_class 10

Reads   data/mnist3/, models/vit_small/            images, index lists, pretrained weights
Writes  models/vit_small/mnist3_10pc/<seed>/epoch_*.safetensors
        results/vit_small_mnist3_10pc/predictions/<seed>.nc
Takes   24 s on 2 CPU cores (ten seeds)
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import Train
from bayestda.experiments.stages.systems import VitLora

if __name__ == "__main__":
    run_script(__doc__, Train(VitLora))
