"""Hold the words of the papers' pages: methods, columns, classes and features, each once."""

from bayestda.experiments.outputs import FINAL_TABLES as FINAL_TABLES
from bayestda.experiments.outputs import TABLES as TABLES
from bayestda.experiments.tasks import TASKS

METHOD_NOTES = {
    "loo": "Leave-one-out: by how much the test loss rises if the example is left out and the "
    "model is trained again, from the start.",
    "loo_published": "Leave-one-out as released: by how much the test loss rises if each "
    "checkpoint is trained on, for as many epochs again, without the example.",
    "ats": "Adding to the training set: by how much one more step on the example lowers the test "
    "loss.",
    "ats_sgd": "Adding to the training set: by how much one more step of gradient descent, instead "
    "of Adam, on the example lowers the test loss.",
    "influence": "Damped influence function: the test gradient times the inverse Gauss-Newton "
    "matrix (plus λ) times the example's gradient.",
    "influence_lissa": "Influence by LiSSA, as released: the test gradient times what a recursion "
    "makes of the inverse of the Hessian, not of the Gauss-Newton matrix, times the example's "
    "gradient.",
    "grad_dot": "Grad-Dot: the inner product of the test gradient and the example's gradient.",
    "grad_cos": "Grad-Cos: the cosine of the test gradient and the example's gradient.",
}

CLASSES = {
    "cifar10": TASKS["cifar10"].output_names,
    "sst2": ["unfavourable", "favourable"],
    "adult": ["up to 50K", "over 50K"],
    "folktables": ["up to 50K", "over 50K"],
    "heloc": ["Bad", "Good"],
}  # fmt: skip

FEATURES = {  # the columns of files whose own names say little (UCI 242)
    "energy": {
        "X1": "relative compactness", "X2": "surface area, m²", "X3": "wall area, m²",
        "X4": "roof area, m²", "X5": "height, m", "X6": "orientation",
        "X7": "glazing area, share", "X8": "glazing distribution", "Y1": "heating load, kWh/m²",
    },
    "concrete": {
        "cement": "cement, kg/m³", "slag": "slag, kg/m³", "fly_ash": "fly ash, kg/m³",
        "water": "water, kg/m³", "superplasticizer": "superplasticizer, kg/m³",
        "coarse_aggregate": "coarse aggregate, kg/m³", "fine_aggregate": "fine aggregate, kg/m³",
        "age_days": "age, days", "strength_mpa": "strength, MPa",
    },
}  # fmt: skip
UNITS = {"energy": "kWh/m²", "concrete": "MPa"}

VARIANCE = (
    "One score of one run and one checkpoint varies. Part of it all checkpoints of a run share "
    "(seed), part all runs share at an epoch (epoch), and the rest is of run and epoch alone (seed "
    "× epoch). Averaging over runs helps against the first and the last, averaging over "
    "checkpoints against the second and the last."
)
VARIANCE_CROSSED = (
    "One score of one run and one checkpoint varies. Part of it all checkpoints of a run share: "
    "that of its initialisation, of its order of the data, and of the two together (interaction). "
    "Part all runs share at an epoch (epoch), and the rest is of run and epoch alone (run × "
    "epoch). Averaging over initialisations helps against all but the order's part and the "
    "epoch's, over orders against all but the initialisation's and the epoch's, over checkpoints "
    "against the epoch's and the last."
)

LONG_COLUMNS = {
    "n_seeds": "runs that are a sample",
    "n_pairs": "train-test pairs",
    "num_checkpoints": "last checkpoints of each run that are averaged first",
    "low": "lower end of the 95 % interval",
    "high": "upper end of the 95 % interval",
    "scope": "all_pairs; per_test: over training examples, mean over test examples; within_labels: "
    "scores less their mean over pairs with the same labels",
    "component": "seed: all that a seed sets; epoch: common to all runs; seed_x_epoch: the rest. "
    "Of crossed runs: init (initialisation), order (of the data), their interaction, epoch, and "
    "run_x_epoch: the rest. all_pairs_published: the paper's variance, over all pairs of a "
    "retrained and a base model, which is none of these",
    "share": "of the sum of the components; of all_pairs_published: as a multiple of that sum",
    "variance": "mean over pairs",
    "adjustment": "full: less the loss after training with all data; mean: less that of the mean "
    "left-out run; centred: methods also centred",
    "choice": "best: the best damping, chosen by looking",
    "se_test": "standard error over test points",
}
