"""Influence functions with the eigenvalue-corrected Kronecker-factored curvature (EK-FAC)."""

from bayestda.curvature.degenerate import require_curvature
from bayestda.curvature.filters import Filter, ridge
from bayestda.curvature.kronecker import Basis, corrected, diagonal
from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks, by_blocks
from bayestda.gradients.hooks import plain_layers
from bayestda.gradients.sample import SampleGradients, loss_cotangents, root_cotangents

CURVATURES = {"gauss_newton": root_cotangents, "empirical_fisher": loss_cotangents}


@by_blocks
def ekfac_influence(
    gradients: SampleGradients, damping: float, *, curvature: str = "gauss_newton"
) -> Blocks:
    r"""Return scores [N M]: :math:`\nabla g(z)^\top (\hat C + \lambda I)^{-1} \nabla L(z_j)`.

    Positive = helpful. Ĉ is block-diagonal over layers, :math:`(Q_A \otimes Q_B)\,\mathrm{diag}(s)
    \,(Q_A \otimes Q_B)^\top`, with Q from the covariances A of a layer's inputs (a constant 1
    appended for the bias) and B of its output's gradients, and s the diagonal of the layer's exact
    Gauss-Newton block of the mean loss in that basis (George et al. 2018, section 3; Grosse et al.
    2023, section 2.2; no labels are sampled). Costs N·K backward passes, twice as many where their
    factors do not fit into memory, N + M gradients, min(N, M)·P numbers, and
    Σ_l (I_l² + O_l² + I_l O_l) for Ĉ.

    Args:
        gradients: The gradients of one sample of θ, through linear and convolutional layers only.
        damping: The ridge λ, in units of curvature eigenvalues.
        curvature: ``gauss_newton``, or ``empirical_fisher``: (1/N) Σ_j ∇L(z_j) ∇L(z_j)ᵀ, which
            costs N backward passes and is no curvature (Kunstner et al. 2019).

    Raises:
        UserError: Unknown curvature, or parameters in layers that EK-FAC does not cover.
    """
    return filtered_ekfac_influence.blocks(gradients, ridge(damping), curvature=curvature)


@by_blocks
def filtered_ekfac_influence(
    gradients: SampleGradients, phi: Filter, *, curvature: str = "gauss_newton"
) -> Blocks:
    r"""Return scores [N M]: :math:`\nabla g(z)^\top \phi(\hat C) \nabla L(z_j)`.

    Positive = helpful. Ĉ, costs and errors as in :func:`ekfac_influence`; Ĉ is made once for all
    filters.

    Args:
        gradients: The gradients of one sample of θ.
        phi: A filter of :mod:`bayestda.curvature.filters`.
        curvature: As in :func:`ekfac_influence`.
    """
    if curvature not in CURVATURES:
        raise UserError(
            f"curvature={curvature!r} is unknown: choose one of {', '.join(CURVATURES)}"
        )
    if curvature == "gauss_newton":
        require_curvature(gradients)
    key = f"ekfac {curvature}"
    if key not in gradients.kept:
        gradients.kept[key] = _bases(gradients, curvature)
    return diagonal(gradients, gradients.kept[key], phi)


def _bases(gradients: SampleGradients, curvature: str) -> dict[str, Basis]:
    """Return Ĉ: eigenvectors and corrected eigenvalues of every layer."""
    network, hooked = gradients.network, gradients.ways.hooked(gradients.network)
    layers = {name: own for name, own in plain_layers(network).items() if name in hooked}
    outside = [name for name in gradients.layout.shapes if name.rpartition(".")[0] not in layers]
    if outside:
        kept = "|".join(f"{name}.*" for name in layers) or "<layer>.*"
        raise UserError(
            f"EK-FAC covers nn.Linear and nn.Conv2d that are called once per input, share no "
            f"parameter, and have no groups and number-given padding with zeros; not "
            f"{', '.join(outside[:4])}{', ...' if len(outside) > 4 else ''} of this "
            f"{type(network).__name__}: attribute through the others by parameters={kept!r}"
        )
    return corrected(gradients, layers, CURVATURES[curvature])
