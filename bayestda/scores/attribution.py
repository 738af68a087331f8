"""Score training examples by every sample of a posterior, for any model.

**Sign, orientation, scale.** A score is positive where the training example helps: where removing
it would raise the measurement on the test example (by default its loss). Rows are training
examples, columns test examples. Gradient methods give ∇g(z)ᵀ φ(C) ∇L(z_j) with C the curvature of
the *mean* training loss, so that a score of an influence function divided by N estimates
leave-one-out, g(z; θ without z_j) − g(z; θ), which is the scale of ``loo``.
"""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bayestda.model.measuring import measuring
from bayestda.model.objective import Objective
from bayestda.scores.requests import Method
from bayestda.scores.scoring import Scoring
from bayestda.scores.writers import Diagonal, InMemory, opened, score_file
from bayestda.training.posterior import Posterior

Methods = Method | list[Method]


def attribute(
    posterior: Posterior,
    objective: Objective,
    train: Any,
    test: Any,
    *,
    method: Methods = "influence",
    parameters: str | None = None,
    memory_gb: float | None = None,
    scratch: str | Path | None = None,
    output: str | Path | None = None,
    **settings: Any,
) -> Any:
    """Return scores of all training examples for all test examples, by every sample of θ.

    Several methods and dampings are computed in one pass. For each sample of θ gradients,
    Jacobian and curvature are computed once, as far as memory can hold them.

    Args:
        posterior: Samples of θ.
        objective: Loss and measurement, such as :class:`tda.Classification`.
        train, test: Examples, as :func:`bayestda.model.examples.examples` takes them.
        method: A name from ``tda.METHODS``, or a function from
            :class:`bayestda.gradients.sample.SampleGradients` (and the settings) to scores [N M].
            The function may ask by name for facts about the sample: ``horizon``, ``rate``, ``pace``
            (:mod:`bayestda.training.horizon`) and ``place``, its number in the run, counted from 0.
            A list of methods gives a data set with one variable for each.
        parameters: Patterns of the parameters to attribute through, such as ``"head.*"``.
        memory_gb: Memory for gradients, curvature and scores in the making. Default: most of what
            is free. Models, examples and, without ``output``, the scores returned come on top.
        scratch: A folder for gradients of one sample that do not fit into memory_gb. None: they
            are computed again when needed.
        output: A netCDF file that scores are written to as they are made, so that they need not
            fit into memory. It is there whole or not at all.
        settings: Settings of the method. Of several methods each gets those settings that it
            takes, and a setting that none takes is refused. ``damping="horizon"`` is λ = 1/τ of
            the recorded training, with τ = Σ_t η_t for plain gradient descent
            (:mod:`bayestda.training.horizon` says what it is for others). ``damping=[...]``
            computes scores for each value. The influence function then shares one reduction of
            its matrix between them, in place of a Cholesky factorisation for each.

    Returns:
        An array with dims (seed, checkpoint, train, test), or for a list of methods a data set of
        such arrays. Methods that sum over checkpoints, such as ``tracin``, have no dim checkpoint.
        With a list of dampings, methods that take one have a first dim ``damping``. It is labelled
        by numbers, or by texts if ``"horizon"`` is among them. Positive = helpful. With ``output``
        values are read from the file when asked for.

    Raises:
        UserError: what is given does not fit together, or not into memory; the message says how to
            mend it.
    """
    scoring = Scoring(posterior, objective, (train, test), method, settings,
                 parameters, memory_gb, scratch)  # fmt: skip
    templates = scoring.templates("train", "test")
    if output is None:
        arrays = [np.zeros(template.shape, template.dtype) for template in templates]
        scoring.write([InMemory(values) for values in arrays])
        return _together(scoring, templates, arrays)
    path = Path(output)
    with score_file(path, templates) as files:
        scoring.write(files)
    return opened(path, several=scoring.several)


def self_influence(
    posterior: Posterior,
    objective: Objective,
    train: Any,
    *,
    method: Methods = "influence",
    parameters: str | None = None,
    memory_gb: float | None = None,
    scratch: str | Path | None = None,
    **settings: Any,
) -> Any:
    """Return every training example's score for itself, with its loss as measurement.

    Large for what only the example itself supports: mislabelled or atypical ones. An influence
    function of itself (times 1/N) is the loss on z_j that its removal would add. Methods of the
    library do not score the other pairs; of a function of your own the diagonal is taken.

    Args:
        posterior, objective, train, method, parameters, memory_gb, scratch, settings: As in
            :func:`attribute`.

    Returns:
        An array with dims (seed, checkpoint, train), or for a list of methods a data set. A list
        of dampings adds the first dim ``damping``.
    """
    scoring = Scoring(posterior, measuring(objective, "loss"), (train,), method, settings,
                 parameters, memory_gb, scratch, own=True)  # fmt: skip
    templates = scoring.templates("train")
    arrays = [np.zeros(template.shape, template.dtype) for template in templates]
    scoring.write([Diagonal(values) for values in arrays])
    return _together(scoring, templates, arrays)


def _together(
    scoring: Scoring, templates: list[xr.DataArray], arrays: list[np.ndarray]
) -> xr.DataArray | xr.Dataset:
    """Label scores: as an array, or as a data set where a list of methods was given."""
    labelled = [
        template.copy(data=values) for template, values in zip(templates, arrays, strict=True)
    ]
    if not scoring.several:
        return labelled[0]
    return xr.Dataset({str(array.name): array for array in labelled})
