"""What each method says about further training of a final model without each left-out example.

    python tda_fimo_scripts/approximate.py --task energy
    python tda_fimo_scripts/approximate.py --task adult --methods grad_dot ekfac horizon_ekfac

Reads   data/energy/, models/fimo/energy/
Writes  results/fimo_energy/approximations/<method>/<train_seed>.nc
"""

from bayestda.experiments.stages.approximation import Approximate, add_approximation_flags
from bayestda.experiments.stages.cli import run_final_script

if __name__ == "__main__":
    run_final_script(__doc__, Approximate(), add_approximation_flags)
