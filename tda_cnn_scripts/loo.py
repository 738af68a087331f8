"""Leave-one-out retraining of the CNN: the ground truth.

    python tda_cnn_scripts/loo.py --task mnist3 --num_per_class 10

Reads   data/mnist3/                                 (--variant published: models/ too)
Writes  results/cnn2_mnist3_10pc/scores/loo/<seed>.nc
Takes   1.5 minutes on 2 CPU cores (ten seeds)
"""

from bayestda.experiments.stages.cli import run_script
from bayestda.experiments.stages.commands import Loo
from bayestda.experiments.stages.systems import Cnn

if __name__ == "__main__":
    run_script(__doc__, Loo(Cnn))
