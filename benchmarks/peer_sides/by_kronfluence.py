"""kronfluence. It writes its factors and scores to disk, to a temporary folder here."""

import copy
import logging
import tempfile
from typing import Any

import torch.nn.functional as F
from peer_cases import Case
from torch import Tensor
from torch.utils.data import TensorDataset

from peer_sides.settings import Work, settings

BATCH = 512


def grad_dot(case: Case) -> Work:
    """Strategy ``identity``."""
    return _scores(case, "identity")


def ekfac(case: Case) -> Work:
    """EK-FAC of the empirical Fisher: its true Fisher samples labels."""
    return _scores(case, "ekfac")


def _scores(case: Case, strategy: str) -> Work:
    import kronfluence
    from kronfluence.arguments import FactorArguments, ScoreArguments

    factor_args = FactorArguments(strategy=strategy, use_empirical_fisher=True)
    score_args = ScoreArguments(damping_factor=settings(case).damping)
    train, test = TensorDataset(*case.train), TensorDataset(*case.test)

    def work() -> Tensor:
        task = _task()
        network = kronfluence.prepare_model(copy.deepcopy(case.network), task)
        with tempfile.TemporaryDirectory() as folder:
            analyzer = kronfluence.Analyzer(
                "peers", network, task, cpu=True, log_level=logging.ERROR, disable_tqdm=True,
                output_dir=folder,
            )  # fmt: skip
            analyzer.fit_all_factors(
                "factors", train, per_device_batch_size=BATCH, factor_args=factor_args
            )
            analyzer.compute_pairwise_scores(
                "scores", "factors", test, train, per_device_query_batch_size=BATCH,
                per_device_train_batch_size=BATCH, score_args=score_args,
            )  # fmt: skip
            return analyzer.load_pairwise_scores("scores")["all_modules"].T

    return work


def _task() -> Any:
    from kronfluence.task import Task

    class Classification(Task):
        """Cross-entropy, measured on test examples too."""

        def compute_train_loss(self, batch: Any, model: Any, sample: bool = False) -> Tensor:
            """The summed loss."""
            assert not sample
            return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

        def compute_measurement(self, batch: Any, model: Any) -> Tensor:
            """The summed loss."""
            return self.compute_train_loss(batch, model)

    return Classification()


SIDES = {"kronfluence: identity": grad_dot, "kronfluence: EK-FAC": ekfac}
