"""How the rows of each parameter are made, and a check of rows against one backward pass."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bayestda.gradients.factored import Formed, Rows
from bayestda.gradients.layers import joined_parts, known_layers, parts, trained


@dataclass
class Ways:
    """How rows are made, as the looks at a network found it (:mod:`bayestda.gradients.looks`).

    Attributes:
        simple: Names of the layers whose rows hooks get right. Rows have an entry for each.
        single: Names of parameters whose rows take one backward pass for each example, as both
            hooks and ``vmap`` get them wrong.
    """

    simple: frozenset[str] = frozenset()
    single: set[str] = field(default_factory=set)

    def hooked(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the layers whose rows are made by hooks."""
        return {
            name: layer
            for name, layer in known_layers(network).items()
            if name in self.simple and not own_names(name, layer) & self.single
        }


def remaining(network: nn.Module, layers: Container[str]) -> dict[str, nn.Parameter]:
    """Return the trained parameters of other modules than these layers, by name."""
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and name.rpartition(".")[0] not in layers
    }


def differing(
    network: nn.Module,
    rows: Rows,
    output_BK: Tensor,
    cotangents_LBK: Tensor,
    epsilon: float,
) -> set[str]:
    """Return names of the parameters whose rows do not add up to what one backward pass gives.

    Rows are weighted, so that one example's row in another's place shows. Weights are relative to
    the cotangents, so that the rows of confident examples count, too.

    Args:
        network: The network.
        rows: The rows of a batch.
        output_BK: The batch's outputs, with their graph.
        cotangents_LBK: The vectors whose rows these are.
        epsilon: The rounding of one number.
    """
    norm_LB = cotangents_LBK.norm(dim=-1)
    weight_LB = torch.linspace(1, 2, norm_LB.numel()).to(norm_LB).view_as(norm_LB) / norm_LB
    weight_LB = weight_LB.nan_to_num(posinf=0)
    named = {n: p for n, p in network.named_parameters() if p.requires_grad}
    summed = torch.autograd.grad(
        output_BK, list(named.values()), (weight_LB[..., None] * cotangents_LBK).sum(0),
        retain_graph=True, allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    expected = dict(zip(named, summed, strict=True))
    weight_BL = weight_LB.T.to(next(iter(named.values())).dtype)  # as rows have, under autocast
    found = {key: block.weighted(weight_BL) for key, block in rows.items()}
    return unlike(network, found, expected, epsilon)


def unlike(
    network: nn.Module, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], epsilon: float
) -> set[str]:
    """Return names of the parameters whose gradients differ by more than rounding.

    Args:
        network: The network.
        found: Gradients [p] by key of rows: by layer, or by parameter.
        expected: Gradients by name of the parameter.
        epsilon: The rounding of one number.
    """
    if not found:
        return set()
    gaps, sizes, owned = [], [], []
    for key, value_p in found.items():
        pieces = {key: value_p.view_as(expected[key])} if key in expected else {
            _full(key, part): piece
            for part, piece in parts(network.get_submodule(key), value_p).items()
        }  # fmt: skip
        owned.append(set(pieces))
        gaps.append(_norm([piece - expected[name] for name, piece in pieces.items()]))
        sizes.append(_norm([expected[name] for name in pieces]))
    size_l = torch.stack(sizes)
    # Rounding stays far below √ε, and a wrong row differs by its own size: 3 √ε parts them. A
    # layer whose gradient is tiny has the rounding of the whole network, hence the hundredth of
    # all layers' norm.
    differ_l = torch.stack(gaps) > 3 * epsilon**0.5 * (size_l + size_l.norm() / 100)
    wrong = (names for names, differ in zip(owned, differ_l.tolist(), strict=True) if differ)
    return set().union(*wrong)


def by_layer(network: nn.Module, rows: Rows, simple: frozenset[str]) -> Rows:
    """Join rows of simple layers' parameters, where a block has them made in another way."""
    for name, layer in known_layers(network).items():
        if name in simple and own_names(name, layer) <= rows.keys():
            named = {part: rows.pop(_full(name, part)).formed() for part in trained(layer)}
            rows[name] = Formed(joined_parts(layer, named))
    return rows


def own_names(name: str, layer: nn.Module) -> set[str]:
    """Return the full names of a layer's trained parameters."""
    return {_full(name, part) for part in trained(layer)}


def _full(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.stack([tensor.norm() for tensor in tensors]).norm()
