"""Test and compare scores: functions from arrays (seed, checkpoint, train, test) to tables."""

from bayestda.statistics.accuracy import accuracy
from bayestda.statistics.alignment import run_means
from bayestda.statistics.correlation import SIGNED, correlation_matrix, correlations
from bayestda.statistics.evaluation import (
    compare,
    detection_auc,
    evaluate,
    linear_datamodelling_score,
    loo_correlation,
)
from bayestda.statistics.held_out import chosen_on_other_half
from bayestda.statistics.intervals import jackknife_interval, t_interval
from bayestda.statistics.labels import is_labelled, within_labels
from bayestda.statistics.reliability import agreement, reliability
from bayestda.statistics.significance import (
    benjamini_hochberg,
    expected_published_p,
    expected_sign_agreement,
    mean_p_interval,
    pair_reliability,
    published_p,
    seeds_needed,
    sign_agreement,
    signal_to_noise,
    student_t,
)
from bayestda.statistics.variance import (
    crossed_components,
    crossed_shares,
    pooled_pair_share,
    pooled_pair_variance,
    seed_components,
    seed_shares,
    to_grid,
)

__all__ = [
    "SIGNED",
    "accuracy",
    "agreement",
    "benjamini_hochberg",
    "chosen_on_other_half",
    "compare",
    "correlation_matrix",
    "correlations",
    "crossed_components",
    "crossed_shares",
    "detection_auc",
    "evaluate",
    "expected_published_p",
    "expected_sign_agreement",
    "is_labelled",
    "jackknife_interval",
    "linear_datamodelling_score",
    "loo_correlation",
    "mean_p_interval",
    "pair_reliability",
    "pooled_pair_share",
    "pooled_pair_variance",
    "published_p",
    "reliability",
    "run_means",
    "seed_components",
    "seed_shares",
    "seeds_needed",
    "sign_agreement",
    "signal_to_noise",
    "student_t",
    "t_interval",
    "to_grid",
    "within_labels",
]
