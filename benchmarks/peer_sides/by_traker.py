"""traker. Its scores are up to a constant: it divides the kernel's inverse by its mean size."""

import logging
import tempfile

import torch
from peer_cases import Case

from peer_sides.settings import Projected, Work, settings


def trak(case: Case) -> Work:
    """TRAK with one checkpoint, in float32, with its projection for a CPU (normal)."""
    from trak import TRAKer

    state = case.network.state_dict()
    num_train, num_test = len(case.train[1]), len(case.test[1])

    def work() -> Projected:
        with tempfile.TemporaryDirectory() as folder:
            traker = TRAKer(
                case.network, "image_classification", num_train, save_dir=folder, device="cpu",
                proj_dim=settings(case).projection, use_half_precision=False,
                logging_level=logging.ERROR,
            )  # fmt: skip
            traker.load_checkpoint(state, model_id=0)
            traker.featurize(case.train, num_samples=num_train)
            traker.finalize_features()
            states = traker.projector.generator_states  # the matrix is freed, and not drawn again
            traker.projector.generate_sketch_matrix(states[0])
            traker.start_scoring_checkpoint("test", state, 0, num_test)
            traker.score(case.test, num_samples=num_test)
            scores = torch.tensor(traker.finalize_scores("test"))
        return Projected(scores, lambda: traker.projector.proj_matrix)

    return work


SIDES = {"traker: TRAK": trak}
