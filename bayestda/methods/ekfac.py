"""Influence functions with the eigenvalue-corrected Kronecker-factored curvature (EK-FAC)."""

import copy
import warnings
from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from bayestda.curvature.filters import Filter, ridge
from bayestda.curvature.kronecker import Basis, diagonal
from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks, between, by_blocks
from bayestda.gradients.sample import SampleGradients, plain_layers
from bayestda.model.examples import blocks
from bayestda.model.losses import BinaryClassification, Classification, Regression
from bayestda.model.measuring import innermost
from bayestda.model.objective import AsCalled, Objective

_LOSSES = {
    Classification: nn.CrossEntropyLoss,
    BinaryClassification: nn.BCEWithLogitsLoss,
    Regression: nn.MSELoss,
}
_FISHER_TYPES = {"gauss_newton": "type-2", "empirical_fisher": "empirical"}


@by_blocks
def ekfac_influence(
    gradients: SampleGradients, damping: float, *, curvature: str = "gauss_newton"
) -> Blocks:
    r"""Scores [N M]: :math:`\nabla g(z)^\top (\hat C + \lambda I)^{-1} \nabla L(z_j)`; + = helpful.

    Ĉ is block-diagonal over layers, :math:`(Q_A \otimes Q_G)\,\mathrm{diag}(s)\,(Q_A \otimes
    Q_G)^\top`, with Q from the covariances A of a layer's inputs (a constant 1 appended for the
    bias) and G of its output's gradients, and s the diagonal of the layer's exact Gauss-Newton
    block of the mean loss in that basis (George et al. 2018, section 3; Grosse et al. 2023,
    section 2.2; the factors by curvlinops, with no sampled labels). Costs 2 N·K backward passes,
    N + M gradients, M·P numbers for the test side, and Σ_l (I_l² + O_l² + I_l O_l) for Ĉ.

    Args:
        gradients: of one sample of θ, through linear and convolutional layers only.
        damping: λ.
        curvature: ``gauss_newton``, or ``empirical_fisher``: (1/N) Σ_j ∇L(z_j) ∇L(z_j)ᵀ, which
            costs 2 N backward passes and is no curvature (Kunstner et al. 2019).

    Raises:
        UserError: unknown curvature, curvlinops is missing, another loss than cross-entropy or
            mean squared error, or parameters in layers that EK-FAC does not cover.
    """
    return filtered_ekfac_influence.blocks(gradients, ridge(damping), curvature=curvature)


@by_blocks
def filtered_ekfac_influence(
    gradients: SampleGradients, phi: Filter, *, curvature: str = "gauss_newton"
) -> Blocks:
    r"""Scores [N M]: :math:`\nabla g(z)^\top \phi(\hat C) \nabla L(z_j)`; positive = helpful.

    Ĉ, costs and errors as in :func:`ekfac_influence`; Ĉ is made once for all filters.

    Args:
        gradients: of one sample of θ.
        phi: from :mod:`bayestda.curvature.filters`.
        curvature: as in :func:`ekfac_influence`.
    """
    if curvature not in _FISHER_TYPES:
        raise UserError(
            f"curvature={curvature!r} is unknown: choose one of {', '.join(_FISHER_TYPES)}"
        )
    key = "ekfac" if curvature == "gauss_newton" else f"ekfac {curvature}"
    if key not in gradients.kept:
        gradients.kept[key] = _ekfac(gradients, _FISHER_TYPES[curvature])
    operator = gradients.kept[key]
    bases = _bases(operator, phi)
    if bases is not None:
        return diagonal(gradients, bases)
    filtered = copy.copy(operator)
    filtered._corrected_eigenvalues = _mapped(phi, filtered._corrected_eigenvalues)
    dtype = gradients.theta_P.dtype
    return between(gradients, lambda test_Pm: filtered @ test_Pm.to(dtype))


def _bases(operator: Any, phi: Filter) -> dict[str, Basis] | None:
    """Eigenvectors and φ of the eigenvalues by layer; None if a layer is trained in part."""
    holder, bases = "network.", {}
    for name, places in operator._mapping.items():
        layer = operator._model_func.get_submodule(name)
        if len(places) != len(list(layer.parameters())):
            return None
        values = operator._corrected_eigenvalues[name]
        if isinstance(values, dict):  # of a layer without bias
            (values,) = values.values()
        bases[name.removeprefix(holder)] = Basis(
            operator._input_covariances_eigenvectors[name],
            operator._gradient_covariances_eigenvectors[name],
            phi(values),
        )
    return bases


def _mapped(phi: Filter, eigenvalues: Any) -> Any:
    """φ of each layer's eigenvalues; of each parameter's, where only one of a layer is trained."""
    if isinstance(eigenvalues, dict):
        return {key: _mapped(phi, value) for key, value in eigenvalues.items()}
    return phi(eigenvalues)


def _ekfac(gradients: SampleGradients, fisher_type: str = "type-2") -> Any:
    """The operator Ĉ of curvlinops, its eigenvalues computed."""
    objective, layout = innermost(gradients.objective), gradients.layout
    curvlinops, loss = _curvlinops(), _LOSSES.get(type(objective))  # type: ignore[call-overload]
    if loss is None:
        raise UserError(
            f"EK-FAC knows the losses of {', '.join(kind.__name__ for kind in _LOSSES)}, not that "
            f"of {type(objective).__name__}: 'influence' and 'influence_cg' take any loss"
        )
    _check_layers(gradients)
    operator = curvlinops.EKFACLinearOperator(
        AsCalled(gradients.network, objective),
        loss(),
        [gradients.network.get_parameter(name) for name in layout.shapes],
        _Batches(gradients, objective),
        check_deterministic=False,
        fisher_type=fisher_type,
        num_per_example_loss_terms=1,
        separate_weight_and_bias=False,
        num_data=len(gradients.train_data),
        batch_size_fn=len,  # asked for of dict inputs, and not called when num_data is known
    )
    operator.compute_kronecker_factors()
    operator.compute_eigenvalue_correction()
    return operator


class _Batches:
    """The training examples as curvlinops reads them, as often as it wants."""

    def __init__(self, gradients: SampleGradients, objective: Objective):
        self.data, self.size = gradients.train_data, gradients.train.block
        self.classes = isinstance(objective, Classification)
        self.dtype = gradients.theta_P.dtype

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        for batch in blocks(self.data, self.size):
            wide = batch.y.reshape(len(batch), -1) if not self.classes else batch.y
            yield batch.x, wide if self.classes else wide.to(self.dtype)


def _curvlinops() -> ModuleType:
    try:
        with warnings.catch_warnings():  # some of what it imports is scripted by torch.jit
            warnings.simplefilter("ignore", DeprecationWarning)
            import curvlinops
    except ModuleNotFoundError as error:
        raise UserError(
            "EK-FAC needs curvlinops: pip install curvlinops-for-pytorch==3.0.1"
        ) from error
    return curvlinops


def _check_layers(gradients: SampleGradients) -> None:
    """What curvlinops would refuse with a bare error, or silently get wrong."""
    network = gradients.network
    covered = _covered_layers(gradients)
    outside = [name for name in gradients.layout.shapes if name.rpartition(".")[0] not in covered]
    if outside:
        kept = "|".join(f"{name}.*" for name in covered) or "<layer>.*"
        raise UserError(
            f"EK-FAC covers nn.Linear and nn.Conv2d that are called once per input, share no "
            f"parameter, and have no groups and number-given padding with zeros; not "
            f"{', '.join(outside[:4])}{', ...' if len(outside) > 4 else ''} of this "
            f"{type(network).__name__}: attribute through the others by parameters={kept!r}"
        )


def _covered_layers(gradients: SampleGradients) -> list[str]:
    network, calls = gradients.network, Counter[str]()
    handles = [
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
        for name, module in network.named_modules()
    ]
    gradients.objective.output(network, gradients.train_data.take(slice(0, 1)).x)
    for handle in handles:
        handle.remove()
    return [
        name
        for name, module in plain_layers(gradients).items()
        if calls[name] == 1 and any(p.requires_grad for p in module.parameters())
    ]
