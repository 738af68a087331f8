"""What each method says about further training of a final model without each left-out example.

    python tda_fimo_scripts/approximate.py --task energy
    python tda_fimo_scripts/approximate.py --task adult --methods grad_dot ekfac horizon_ekfac

Reads   data/energy/, models/fimo/energy/
Writes  results/fimo_energy/approximations/<method>/<train_seed>.nc
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.final_commands import Approximate

if __name__ == "__main__":
    run_script(__doc__, Approximate())
