"""Mislabelled examples: a fifth of the left-out labels flipped, the final model trained on them.

    python tda_fimo_scripts/mislabel.py --task adult_reduced
    python tda_fimo_scripts/mislabel.py --task adult_reduced --train_seed 3      one trial

Reads   data/adult/
Writes  results/fimo_adult_reduced/mislabelled/<trial>.nc
"""

from bayestda.experiments.stages.cli import run_final_script
from bayestda.experiments.stages.mislabelling import Mislabel, add_mislabel_flags

if __name__ == "__main__":
    run_final_script(__doc__, Mislabel(), add_mislabel_flags)
