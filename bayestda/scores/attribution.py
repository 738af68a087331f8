"""Scores of every sample of a posterior, for any model: what ``import tda`` offers.

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
from bayestda.scores.scoring import Method, Scoring
from bayestda.scores.writers import Diagonal, InMemory, score_file
from bayestda.training.posterior import Posterior


def attribute(
    posterior: Posterior,
    objective: Objective,
    train: Any,
    test: Any,
    *,
    method: Method = "influence",
    parameters: str | None = None,
    memory_gb: float | None = None,
    scratch: str | Path | None = None,
    output: str | Path | None = None,
    **settings: Any,
) -> xr.DataArray:
    """Scores of all training examples for all test examples, by every sample of θ.

    Args:
        posterior: samples of θ.
        objective: loss and measurement, such as :class:`tda.Classification`.
        train, test: examples, as :func:`bayestda.model.examples.examples` takes them.
        method: a name from ``tda.METHODS``, or a function from
            :class:`bayestda.gradients.sample.SampleGradients` (and the settings) to scores [N M].
            It may ask by name for what is known of the sample: ``horizon``, ``rate``, ``pace``
            (:mod:`bayestda.training.horizon`) and ``place``, its number in the run, counted from 0.
        parameters: patterns of the parameters to attribute through, such as ``"head.*"``.
        memory_gb: what gradients, curvature and scores in the making may take; default: most of
            what is free. Models, examples and, without ``output``, the scores returned come on
            top.
        scratch: a folder for gradients of one sample that do not fit into memory_gb; None: they
            are computed again when needed.
        output: a netCDF file that scores are written to as they are made, so that they need not
            fit into memory. It is there whole or not at all.
        settings: of the method. ``damping="horizon"`` is λ = 1/τ of the recorded training, with τ
            = Σ_t η_t for plain gradient descent (:mod:`bayestda.training.horizon` says what it is
            for others).

    Returns:
        Dims (seed, checkpoint, train, test); methods that sum over checkpoints, such as
        ``tracin``, have no dim checkpoint. Positive = helpful. With ``output`` its values are read
        from the file when asked for.

    Raises:
        UserError: what is given does not fit together, or not into memory; the message says how to
            mend it.
    """
    scoring = Scoring(posterior, objective, (train, test), method, settings,
                 parameters, memory_gb, scratch)  # fmt: skip
    template = scoring.template("train", "test")
    if output is None:
        values = np.zeros(template.shape, template.dtype)
        scoring.write(InMemory(values))
        return template.copy(data=values)
    path = Path(output)
    with score_file(path, template) as file:
        scoring.write(file)
    return xr.open_dataarray(path, engine="h5netcdf")


def self_influence(
    posterior: Posterior,
    objective: Objective,
    train: Any,
    *,
    method: Method = "influence",
    parameters: str | None = None,
    memory_gb: float | None = None,
    scratch: str | Path | None = None,
    **settings: Any,
) -> xr.DataArray:
    """Every training example's score for itself, with its loss as measurement.

    Large for what only the example itself supports: mislabelled or atypical ones. An influence
    function of itself (times 1/N) is the loss on z_j that its removal would add. Methods of the
    library do not score the other pairs; of a function of your own the diagonal is taken.

    Args:
        posterior, objective, train, method, parameters, memory_gb, scratch, settings: as in
            :func:`attribute`.

    Returns:
        Dims (seed, checkpoint, train).
    """
    scoring = Scoring(posterior, measuring(objective, "loss"), (train,), method, settings,
                 parameters, memory_gb, scratch, own=True)  # fmt: skip
    template = scoring.template("train")
    values = np.zeros(template.shape, template.dtype)
    scoring.write(Diagonal(values))
    return template.copy(data=values)
