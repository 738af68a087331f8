"""The final models that attribution starts from, one for each training seed.

    python tda_fimo_scripts/train_final.py --task energy
    python tda_fimo_scripts/train_final.py --task cifar10_reduced
    python tda_fimo_scripts/train_final.py --task sst2 --model google-bert/bert-base-uncased --lora

Reads   data/energy/; of cifar10 data/cifar10full/, of sst2 data/sst2/ (data/prepare.py)
Writes  models/fimo/energy/<train_seed>/, results/fimo_energy/predictions/<train_seed>.nc
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.final_commands import TrainFinal

if __name__ == "__main__":
    run_script(__doc__, TrainFinal())
