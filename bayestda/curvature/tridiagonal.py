r"""A symmetric matrix as :math:`Q T Q^\top` with T tridiagonal: what several dampings can share.

:math:`(A + \lambda)^{-1} = Q (T + \lambda)^{-1} Q^\top`, and T + λ is solved in time linear in its
size. An eigendecomposition begins with the same reduction and goes on for three times as long.
"""

from functools import cached_property

import numpy as np
import torch
from scipy.linalg import eigvalsh_tridiagonal, lapack
from torch import Tensor

from bayestda.errors import UserError

BLOCK = 64  # columns that LAPACK works on together; changes only the speed


def singular(damping: float) -> UserError:
    """Return the error of a damping that leaves the curvature singular."""
    return UserError(
        f"damping={damping} leaves the curvature singular: give a positive one, or a larger"
    )


class Tridiagonal:
    """A positive semi-definite matrix A, reduced by Householder reflections (LAPACK's sytrd).

    Args:
        matrix_QQ: A, float64, on the CPU.

    Raises:
        LinAlgError: A is not finite.
    """

    def __init__(self, matrix_QQ: Tensor):
        if not matrix_QQ.isfinite().all():
            raise torch.linalg.LinAlgError("the matrix is not finite")
        copied = np.array(matrix_QQ.numpy(), order="F")
        self._reflections, self._diagonal, self._beside, self._factors, _ = lapack.dsytrd(
            copied, lower=1, lwork=BLOCK * len(copied), overwrite_a=1
        )

    def rotated(self, right_QV: Tensor) -> Tensor:
        """Return Qᵀ b of vectors b [Q V]."""
        result = np.array(right_QV.numpy(), order="F")
        # Q leaves the first coordinate alone: reflections are stored from the second row on.
        turned, _, _ = lapack.dormqr(
            "L", "T", self._reflections[1:, :-1], self._factors, result[1:],
            lwork=BLOCK * result.shape[1],
        )  # fmt: skip
        result[1:] = turned
        return torch.from_numpy(result)

    def solved(self, damping: float, right_QV: Tensor) -> Tensor:
        """Return (T + λ)⁻¹ b of vectors b [Q V], by T + λ = L D Lᵀ.

        Raises:
            UserError: A + λ is singular, as far as rounding lets one say.
        """
        largest = np.abs(self._diagonal).max() + 2 * np.abs(self._beside).max(initial=0.0)
        rounding = len(self._diagonal) * np.finfo(float).eps * largest
        if self._lowest + damping <= rounding:
            raise singular(damping)
        diagonal, beside, _ = lapack.dpttrf(self._diagonal + damping, self._beside)
        return torch.from_numpy(lapack.dpttrs(diagonal, beside, right_QV.numpy())[0])

    @cached_property
    def _lowest(self) -> float:
        return float(
            eigvalsh_tridiagonal(self._diagonal, self._beside, select="i", select_range=(0, 0))[0]
        )
