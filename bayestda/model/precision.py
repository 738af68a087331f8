"""Set the precision of matrix products on GPUs, and the kernels of attention."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def differentiated_attention() -> Iterator[None]:
    """Let ``nn.TransformerEncoder`` compute the function that is trained and differentiated.

    In evaluation mode without gradients it would take a fast path (torch 2.13), which sets padded
    positions to zero: another function. The setting of before is restored at the end.
    """
    previous = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(previous)


@contextmanager
def matmul_precision(tf32: bool) -> Iterator[None]:
    """Use full float32 or, if ``tf32``, TensorFloat-32 for products and convolutions on GPUs.

    Attention is as in :func:`differentiated_attention`. The settings of before are restored at the
    end.
    """
    previous = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        with differentiated_attention():
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = previous
