"""Filters of eigenvalues against the sums and integrals that they stand for, in float64."""

import pytest
import torch

from bayestda.curvature.filters import divided_differences, flow, ridge, unrolled

RATE = 0.25
CLOSE = {"rtol": 1e-12, "atol": 1e-15}


def wide(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_unrolled_is_the_sum_over_steps_wherever_descent_converges(steps):
    s_Q = wide(0, 1e-9, 0.3, 0.99, 1, 1 + 1e-9, 1.5, 1.99, 2) / RATE
    expected_Q = sum(RATE * (1 - RATE * s_Q) ** t for t in range(steps))
    torch.testing.assert_close(unrolled(RATE, steps)(s_Q), expected_Q, rtol=1e-12, atol=1e-13)


def test_the_flow_takes_over_where_descent_diverges_or_has_no_real_power():
    beyond_Q = wide(2.01, 3, 50) / RATE
    torch.testing.assert_close(unrolled(RATE, 7)(beyond_Q), flow(7 * RATE)(beyond_Q), **CLOSE)
    above_Q, below_Q = wide(1, 1.5, 2) / RATE, wide(0.2, 0.9) / RATE
    part = unrolled(RATE, 6.5)
    torch.testing.assert_close(part(above_Q), flow(6.5 * RATE)(above_Q), **CLOSE)
    expected_Q = (1 - (1 - RATE * below_Q) ** 6.5) / below_Q
    torch.testing.assert_close(part(below_Q), expected_Q, **CLOSE)


def test_the_flow_with_weight_decay_is_the_limit_of_descent_on_the_penalised_loss():
    s_Q, decay, horizon, steps = wide(0, 1e-6, 0.3, 2), 0.2, 5.0, 200_000
    rate = horizon / steps
    kept_Q = 1 - rate * (s_Q + decay)  # of a distance, by a step
    expected_Q = rate * (1 - kept_Q**steps) / (1 - kept_Q)
    torch.testing.assert_close(flow(horizon, decay)(s_Q), expected_Q, rtol=1e-4, atol=0)
    torch.testing.assert_close(flow(horizon, 0.0)(s_Q), flow(horizon)(s_Q), rtol=0, atol=0)


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_slopes_are_those_of_the_sum(steps):
    s_Q = wide(0, 0.3, 0.99, 1.5, 1.99) / RATE
    slope_Q = sum(
        (-(RATE**2) * t * (1 - RATE * s_Q) ** (t - 1) for t in range(1, steps)),
        torch.zeros_like(s_Q),
    )
    found_QQ = divided_differences(unrolled(RATE, steps), s_Q)
    torch.testing.assert_close(found_QQ.diagonal(), slope_Q, rtol=1e-10, atol=1e-12)


def test_the_slope_of_the_flow_at_zero_is_minus_half_the_square_of_its_horizon():
    slopes_QQ = divided_differences(flow(5.0), wide(0, 0, 2))
    torch.testing.assert_close(slopes_QQ[:2, :2], torch.full_like(slopes_QQ[:2, :2], -12.5))


def test_divided_differences_become_derivatives_where_eigenvalues_meet():
    s_Q = wide(0, 1e-12, 0.2, 0.2 + 1e-9, 0.2, 3)
    phi, slopes_QQ = ridge(1.3), divided_differences(ridge(1.3), s_Q)
    expected = -phi(s_Q)[:, None] * phi(s_Q)
    torch.testing.assert_close(slopes_QQ, expected, rtol=1e-6, atol=0)

    a_Q1, b_Q, tau = s_Q[:, None], s_Q, 5.0  # the mean of φ' between a and b, by its midpoint rule
    share_T = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    inner_QQT = tau * (a_Q1[..., None] + (b_Q - a_Q1)[..., None] * share_T)
    small_QQT = inner_QQT.clamp(min=1e-3)  # below, φ'(s)/τ² = −1/2 + τs/3
    exact_QQT = ((1 + small_QQT) * torch.exp(-small_QQT) - 1) / small_QQT**2
    slope_QQT = torch.where(inner_QQT < 1e-3, inner_QQT / 3 - 0.5, exact_QQT) * tau**2
    torch.testing.assert_close(
        divided_differences(flow(tau), s_Q), slope_QQT.mean(-1), rtol=1e-3, atol=0
    )
