"""One reduction solves for every damping what a dense solver solves."""

import pytest
import torch

from bayestda.curvature.tridiagonal import Tridiagonal
from bayestda.errors import UserError


def semidefinite(size, rank):
    root = torch.randn(size, rank, generator=torch.Generator().manual_seed(size)).double()
    return root @ root.T


@pytest.mark.parametrize(("size", "rank"), [(12, 12), (12, 5), (2, 2)])
def test_it_solves_as_a_dense_solver_does(size, rank):
    matrix = semidefinite(size, rank)
    right = torch.randn(size, 3, generator=torch.Generator().manual_seed(0)).double()
    left = torch.randn(size, 2, generator=torch.Generator().manual_seed(1)).double()
    reduced = Tridiagonal(matrix)
    for damping in (1e-3, 0.1, 10.0):
        found = reduced.rotated(left).T @ reduced.solved(damping, reduced.rotated(right))
        damped = matrix + damping * torch.eye(size).double()
        expected = left.T @ torch.linalg.solve(damped, right)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_matrix_is_not_changed():
    matrix = semidefinite(6, 6)
    before = matrix.clone()
    Tridiagonal(matrix)
    assert torch.equal(matrix, before)


def test_a_singular_matrix_needs_a_damping_and_numbers():
    with pytest.raises(UserError, match="leaves the curvature singular"):
        Tridiagonal(semidefinite(6, 3)).solved(0.0, torch.ones(6, 1).double())
    with pytest.raises(torch.linalg.LinAlgError, match="not finite"):
        Tridiagonal(torch.full((3, 3), torch.nan).double())
