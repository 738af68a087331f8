"""Further training with all data, and without each left-out example: the gold standard.

    python tda_fimo_scripts/further_train.py --task energy
    python tda_fimo_scripts/further_train.py --task energy --optimizer adam
    python tda_fimo_scripts/further_train.py --task energy --leave_out delete
    python tda_fimo_scripts/further_train.py --task energy --start scratch --num_seeds 2
    python tda_fimo_scripts/further_train.py --task sst2_reduced --lora

Reads   data/energy/, models/fimo/energy/
Writes  results/fimo_energy/further/<variant>/<train_seed>x<seed>.nc
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.final_commands import FurtherTrain

if __name__ == "__main__":
    run_script(__doc__, FurtherTrain())
