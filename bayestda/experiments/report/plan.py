"""What fits into a page: which test examples, and of how many training examples the samples.

Every training example of a test example that is shown has its mean, interval, q-value and sign
agreement; only what is most extreme by some method has its single samples, if not all fit.
"""

from dataclasses import dataclass

import numpy as np

MEGABYTE = 1e6
BASE64 = 4 / 3
PAIR_BYTES = 7  # mean, half-width and q in two bytes each, agreement in one (encoding.py)
SAMPLE_BYTES = 0.75  # measured 0.45 to 0.63 of a byte after compression (LOO, ATS of MNIST3)
PAIRS_SHARE = 0.6  # of the budget at most, before test examples are left out


@dataclass(frozen=True, eq=False)
class Plan:
    """What is shown.

    Attributes:
        tests: places [M'] of the test examples.
        num_sampled: training examples with samples, for each test example.
    """

    tests: np.ndarray
    num_sampled: int


def plan(num_train: int, num_test: int, pairs: int, samples: int, max_bytes: float) -> Plan:
    """Test examples at even distances, as many as fit, and samples for what room is left.

    Args:
        num_train, num_test: N, M.
        pairs: numbers of a pair's statistics: the methods.
        samples: single scores of a pair, over all methods.
        max_bytes: what they may take in the file, together.
    """
    of_test = num_train * pairs * PAIR_BYTES * BASE64
    of_example = samples * SAMPLE_BYTES * BASE64
    everything = num_test * (of_test + num_train * of_example)
    shown = num_test if everything <= max_bytes else int(PAIRS_SHARE * max_bytes / of_test)
    shown = min(max(shown, 1), num_test)
    room = max_bytes / shown - of_test
    tests = np.linspace(0, num_test - 1, shown).round().astype(int)
    return Plan(tests, int(np.clip(room / of_example, 1, num_train)))
