"""Decide what fits into a page.

Every pair that is shown has its mean, interval, q-value and sign agreement. If not all fits, single
scores are kept for the most extreme training examples only. Then test examples are left out. Of
more than a thousand training examples, those that are extreme for no test example may go as well.
"""

from dataclasses import dataclass

import numpy as np

MEGABYTE = 1e6
BASE64 = 4 / 3
PAIR_BYTES = 7  # mean, half-width and q in two bytes each, agreement in one (encoding.py)
SAMPLE_BYTES = 0.75  # measured 0.45 to 0.63 of a byte after compression (LOO, ATS of MNIST3)
PAIRS_SHARE = 0.6  # of the budget at most, before test examples are left out
TRAIN_SHARE = 0.5  # of the budget at most, for what training examples are
FEW_TRAIN = 1000  # so many training examples stay if they are small: test examples go first
FEW_TEST = 30  # so many test examples are made room for if training examples are left out


@dataclass(frozen=True, eq=False)
class Sizes:
    """Hold how much there is to show.

    Attributes:
        num_train: Number of training examples N.
        num_test: Number of test examples M.
        pairs: Number of methods, each with one set of statistics for a pair.
        samples: Number of single scores of a pair over all methods.
        train_bytes: Bytes of one training example in the file.
        test_bytes: Bytes of one test example in the file.
    """

    num_train: int
    num_test: int
    pairs: int
    samples: int
    train_bytes: float = 0.0
    test_bytes: float = 0.0

    @property
    def pair_bytes(self) -> float:
        """Return the bytes of the statistics of one pair."""
        return self.pairs * PAIR_BYTES * BASE64

    @property
    def sample_bytes(self) -> float:
        """Return the bytes of the single scores of one pair."""
        return self.samples * SAMPLE_BYTES * BASE64


@dataclass(frozen=True, eq=False)
class Plan:
    """Hold what is shown.

    Attributes:
        tests: Places [M'] of the test examples.
        num_train: Number of training examples.
        num_sampled: Number of training examples with single scores, for each test example.
    """

    tests: np.ndarray
    num_train: int
    num_sampled: int


def plan(sizes: Sizes, max_bytes: float) -> Plan:
    """Choose test examples at even distances, as many as fit, and samples for the room left.

    Args:
        sizes: Amounts of examples and scores.
        max_bytes: Bytes that they may take in the file together.
    """
    num_train = _num_train(sizes, max_bytes)
    room = max_bytes - num_train * sizes.train_bytes
    of_test = num_train * sizes.pair_bytes + sizes.test_bytes
    everything = sizes.num_test * (of_test + num_train * sizes.sample_bytes)
    shown = sizes.num_test if everything <= room else int(PAIRS_SHARE * room / of_test)
    shown = min(max(shown, 1), sizes.num_test)
    tests = np.linspace(0, sizes.num_test - 1, shown).round().astype(int)
    left = (room / shown - of_test) / sizes.sample_bytes
    return Plan(tests, num_train, int(np.clip(left, 1, num_train)))


def _num_train(sizes: Sizes, max_bytes: float) -> int:
    """Return how many training examples fit beside a few test examples."""
    few_tests = min(sizes.num_test, FEW_TEST)
    by_scores = PAIRS_SHARE * (1 - TRAIN_SHARE) * max_bytes / (few_tests * sizes.pair_bytes)
    fitting = max(by_scores, FEW_TRAIN)
    if sizes.train_bytes:
        fitting = min(fitting, TRAIN_SHARE * max_bytes / sizes.train_bytes)
    return min(sizes.num_train, max(int(fitting), 1))
