"""Mislabelled examples: a fifth of the left-out labels flipped, the final model trained on them.

    python tda_fimo_scripts/mislabel.py --task adult_reduced
    python tda_fimo_scripts/mislabel.py --task adult_reduced --train_seed 3      one trial

Reads   data/adult/
Writes  results/fimo_adult_reduced/mislabelled/<trial>.nc
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.final_commands import Mislabel

if __name__ == "__main__":
    run_script(__doc__, Mislabel())
