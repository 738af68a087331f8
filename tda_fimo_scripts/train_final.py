"""The final models that attribution starts from, one for each training seed.

    python tda_fimo_scripts/train_final.py --task energy

Reads   data/energy/
Writes  models/fimo/energy/<train_seed>/, results/fimo_energy/predictions/<train_seed>.nc
"""

from tda.cli import run_final_script
from tda.stages.further_training import TrainFinal

if __name__ == "__main__":
    run_final_script(__doc__, TrainFinal())
