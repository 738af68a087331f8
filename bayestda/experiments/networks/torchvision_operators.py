"""torchvision beside a CPU-only torch: two declarations without which its import fails."""

from types import ModuleType

import torch

_DECLARATIONS: list[torch.library.Library] = []  # torch withdraws what is no longer referenced


def import_torchvision() -> ModuleType:
    """Import ``torchvision``, with our declarations where it fails without them.

    A torchvision built for CUDA does not load its C++ operators beside a CPU-only torch, and then
    stops at ``operator torchvision::nms does not exist``. Declaring the schemas is enough: the
    data sets and transforms used here never call the operators.

    Raises:
        ImportError: Torchvision is not installed.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare()
        import torchvision
    return torchvision


def _declare() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARATIONS.append(library)
