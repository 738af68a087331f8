"""Per-example gradients of the loss, and Jacobians of the output, of one sample of θ.

Weight gradients are formed only where that is cheaper (see :mod:`bayestda.gradients.factored`).
"""

import itertools
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from bayestda.errors import UserError
from bayestda.gradients.factored import RowBlocks, Rows
from bayestda.gradients.hooks import Cotangents, capture
from bayestda.gradients.layers import parts
from bayestda.gradients.looks import ways_of
from bayestda.gradients.shards import Scratch
from bayestda.gradients.ways import Ways
from bayestda.model.calls import outputs
from bayestda.model.examples import EVALUATION_BATCH, Data, Examples, blocks
from bayestda.model.layouts import fast_copy
from bayestda.model.looks import check_statistics
from bayestda.model.objective import Measurement, Objective
from bayestda.model.parameters import Parameters
from bayestda.model.precision import matmul_precision
from bayestda.model.readings import spread

LOOK_EVERY = 16  # blocks, of which one is looked at
OUTPUT_COPIES = 5  # in float64: outputs, what a loss makes of them, and cotangents


class SampleGradients:
    """Gradients of one sample of θ on training and test examples, each computed once.

    Args:
        network: The architecture; it is copied.
        objective: The objective, which gives the loss and the measurement.
        theta_P: The sample.
        train, test: Examples [N ...] and [M ...].
        memory_bytes: The memory that gradients may take; changes only the speed.
        scratch: A folder for gradients that do not fit; None: they are captured again when needed.
        own: Whether only each example's score for itself is wanted; ``test`` are then the training
            examples, and the objective measures its loss.
        ways: How rows are made, where known; None: the network is looked at.

    Raises:
        UserError: Batch norm has no running statistics.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        theta_P: Tensor,
        *,
        train: Examples,
        test: Examples,
        memory_bytes: float,
        scratch: str | Path | Scratch | None = None,
        own: bool = False,
        ways: Ways | None = None,
    ):
        self.own = own
        if ways is not None:
            self.ways = ways
        self.network = fast_copy(network, objective, train).eval()
        self.objective, self.train_data, self.test_data = objective, train, test
        self.theta_P, self.memory_bytes = theta_P, memory_bytes
        self.scratch = scratch if isinstance(scratch, Scratch | None) else Scratch(scratch)
        self.layout = Parameters(network)
        self.kept: dict[str, Any] = {}  # what several methods need, such as a curvature matrix
        self.layout.write(self.network, theta_P)
        check_statistics(self.network)
        for module in self.network.modules():
            if hasattr(module, "inplace"):  # hooks see a layer's output; nothing may overwrite it
                module.inplace = False  # type: ignore[assignment]

    @cached_property
    def train(self) -> RowBlocks:
        """Rows ∇L(z_j) of the training examples, L = 1."""
        return self._rows(self.train_data, self.objective.loss)

    @cached_property
    def test(self) -> RowBlocks:
        """Rows ∇g(z) of the test examples, L = 1; g is the measurement, by default the loss."""
        if self.own:
            return self.train
        return self._rows(self.test_data, self.objective.measure)

    @cached_property
    def jacobian(self) -> RowBlocks:
        """Rows ∇f_k(x_j) of the training examples, L = K."""
        return self._blocks(self.train_data, lambda _: output_cotangents)

    @cached_property
    def outputs_NK(self) -> Tensor:
        """Outputs f(x_j) of the training examples."""
        together = EVALUATION_BATCH[self.theta_P.is_cuda]
        with torch.no_grad(), matmul_precision(tf32=False):
            parts = [
                outputs(self.network, self.objective, batch.x)
                for batch in blocks(self.train_data, together)
            ]
        return torch.cat(parts)

    @cached_property
    def targets_N(self) -> Tensor:
        """Targets y_j of the training examples."""
        if isinstance(self.train_data, Data):
            return self.train_data.y
        return torch.cat([batch.y for batch in blocks(self.train_data, self.train.block)])

    def vectors(self, rows: Rows) -> Tensor:
        """Return rows as vectors [B L P] in the order of θ."""
        return vectors(self.network, self.layout, rows)

    def _rows(self, data: Examples, value: Measurement) -> RowBlocks:
        return self._blocks(data, lambda batch: value_cotangents(value, batch.y))

    def _blocks(self, data: Examples, cotangents: Callable[[Data], Cotangents]) -> RowBlocks:
        count = itertools.count()

        def rows(chosen: slice) -> Rows:
            batch, number, before = data.take(chosen), next(count), set(self.ways.single)
            # The first call is of a single example, for its size.
            look = number % LOOK_EVERY == 1
            made = self.captured(batch.x, finite(cotangents(batch), batch), look=look)
            if number > 1 and self.ways.single - before:
                raise UserError(
                    f"gradients of {min(self.ways.single - before)} are right in the first blocks "
                    f"of examples and wrong from example {chosen.start} on, where its layer is "
                    "used in another way: give these examples apart"
                )
            return made

        share = self.memory_bytes / 3  # train, test, jacobian
        return RowBlocks(rows, len(data), share, self.scratch, self.pass_bytes)

    @cached_property
    def pass_bytes(self) -> float:
        """What a forward and a backward pass of one example take, by what its graph keeps."""
        kept: dict[int, int] = {}
        own = {parameter.data_ptr() for parameter in self.network.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
            x_1 = self.train_data.take(slice(1)).x
            output_1K = outputs(self.network, self.objective, x_1)
        graph = sum(size for address, size in kept.items() if address not in own)
        return graph + OUTPUT_COPIES * 8 * output_1K.numel()

    def captured(self, x_B: Any, cotangents: Cotangents, *, look: bool = False) -> Rows:
        """Return rows of a batch of inputs, as :func:`capture` makes them."""
        return capture(self.network, self.objective, x_B, cotangents, self.ways, look=look)

    @cached_property
    def ways(self) -> Ways:
        """How rows of each parameter are made."""
        few = self.train_data.take(spread(len(self.train_data), 2))
        return ways_of(self.network, self.objective, few.x)


def value_cotangents(value: Measurement, y_B: Tensor) -> Cotangents:
    """Return a value's gradient in the output, so that rows are its per-example gradients.

    Args:
        value: A loss or a measurement.
        y_B: The targets.
    """

    def cotangents(output_BK: Tensor) -> Tensor:
        # In float64: in float32, p − 1 of a confident prediction loses its digits.
        wide_BK = output_BK.detach().double().requires_grad_()
        (gradient_BK,) = torch.autograd.grad(value(wide_BK, y_B).sum(), wide_BK)
        return gradient_BK[None].to(output_BK.dtype)

    return cotangents


def loss_cotangents(objective: Objective, y_B: Tensor) -> Cotangents:
    """Return the loss's gradient in the output, whose rows make the empirical Fisher matrix."""
    return value_cotangents(objective.loss, y_B)


def root_cotangents(objective: Objective, y_B: Tensor) -> Cotangents:
    """Return the columns of R, whose rows Jᵀ R make the Gauss-Newton matrix Jᵀ R Rᵀ J.

    R Rᵀ is the Hessian of the loss in the output.
    """

    def cotangents(output_BK: Tensor) -> Tensor:
        root_BKL = objective.hessian_root(output_BK.detach().double(), y_B)
        return root_BKL.permute(2, 0, 1).to(output_BK.dtype)

    return cotangents


def finite(cotangents: Cotangents, batch: Data) -> Cotangents:
    """Refuse outputs that are not finite, and return the cotangents of others."""

    def checked(output_BK: Tensor) -> Tensor:
        finite_B = output_BK.isfinite().all(1)
        if not finite_B.all():
            raise UserError(
                f"the network's output for example {batch.index[int((~finite_B).nonzero()[0, 0])]} "
                "is not finite: look for NaN or infinite inputs there, and for a diverged network"
            )
        return cotangents(output_BK)

    return checked


def output_cotangents(output_BK: Tensor) -> Tensor:
    """Return unit vectors, so that rows are the Jacobian of the output."""
    eye_KK = torch.eye(output_BK.shape[1], dtype=output_BK.dtype, device=output_BK.device)
    return eye_KK[:, None].expand(-1, len(output_BK), -1)


def vectors(network: nn.Module, layout: Parameters, rows: Rows) -> Tensor:
    """Return rows as vectors [B L P] in the order of θ."""
    named: dict[str, Tensor] = {}
    for name, block in rows.items():
        values_BLp = block.formed()
        if name in layout.shapes:
            named[name] = values_BLp.unflatten(-1, layout.shapes[name] or (1,))
            continue
        layer = network.get_submodule(name)
        prefix = f"{name}." if name else ""
        for part, value in parts(layer, values_BLp).items():
            named[prefix + part] = value
    return layout.join(named)
