"""Unrolled differentiation against influence functions, over training and learning rates.

    python tda_distributional_scripts/convergence.py [--runs 6]

A small MLP on 160 rows of UCI Concrete, SGD at three constant rates. After 1, 2, 4, ... epochs
the shifts of 40 examples: unrolled; the influence function with the exact Hessian, with the weight
decay alone as its damping and with the horizon's, 1/Σ η, too; and the horizon filter,
with the weight decay, too.

Reads   data/concrete/
Writes  results/distributional_convergence/samples.nc
Takes   25 s of CPU time for 6 runs, on one core
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.distributional import Samples

if __name__ == "__main__":
    run_script(__doc__, Samples("convergence", runs=6))
