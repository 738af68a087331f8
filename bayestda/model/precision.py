"""Set the precision of matrix products on GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def matmul_precision(tf32: bool) -> Iterator[None]:
    """Use full float32 or, if ``tf32``, TensorFloat-32 for products and convolutions on GPUs.

    The settings of before are restored at the end.
    """
    previous = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = previous
