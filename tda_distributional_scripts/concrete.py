"""UCI Concrete: predictions without a twentieth of the data, as distributions, and retraining.

    python tda_distributional_scripts/concrete.py [--runs 100]

An MLP with 16 GELUs predicts compressive strength. Random groups of training rows are removed:
their shifts by unrolled differentiation and by estimators at the final networks, TRAK's scores, and
two retrainings, with the seeds of the predictions (common random numbers) and with others:
2 · runs · 25 trainings, stacked.

Reads   data/concrete/
Writes  results/distributional_concrete/samples.nc
Takes   51 s of CPU time for 100 runs, on one core
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.distributional import Samples

if __name__ == "__main__":
    run_script(__doc__, Samples("concrete", runs=100))
