"""Pretrained vision transformers: found, loaded once, adapted by LoRA, fed with images."""

import copy
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.grid import Lora
from bayestda.experiments.networks.torchvision_operators import import_torchvision
from bayestda.experiments.networks.vit import ViT, named_weights
from bayestda.model.parameters import private_copy

NUM_CLASSES = 10  # of the paper's tasks; MNIST3 has ten outputs as well
TARGETS = ("q_proj", "v_proj", "query", "value")  # names in newer transformers, and in older ones
SETTINGS = {  # what, beside the weights, scores depend on
    "model": (
        "image_size", "patch_size", "num_attention_heads", "hidden_act", "layer_norm_eps",
        "initializer_range",
    ),
    "processor": (
        "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale",
        "rescale_factor", "do_normalize", "image_mean", "image_std",
    ),
}  # fmt: skip
_BATCH = 64  # images prepared at a time; changes only the speed


def lora_vit(source: str, seed: int, num_outputs: int = NUM_CLASSES) -> ViT:
    """Build a pretrained ViT with fresh adapters and a fresh head, which alone are trainable.

    Args:
        source: Hub id, local folder, or ``vit_small``.
        seed: Seed of the adapters' and the head's initial parameters. PyTorch's global generator
            is left as it is.
        num_outputs: Number of outputs K of the head.

    Raises:
        UserError: The model cannot be loaded, or is no ViT image classifier.
    """
    pretrained = _pretrained(source)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return adapted(pretrained, num_outputs)


def adapted(pretrained: Any, num_outputs: int = NUM_CLASSES) -> ViT:
    """Add LoRA on query and value of every block and a new head; the rest is shared and frozen."""
    model = with_adapters(private_copy(pretrained.requires_grad_(False)))
    model.classifier = nn.Linear(model.config.hidden_size, num_outputs)
    nn.init.normal_(model.classifier.weight, std=model.config.initializer_range)
    nn.init.zeros_(model.classifier.bias)
    return ViT(model)


def with_adapters(model: Any) -> Any:
    """Add LoRA to query and value of every block, in place."""
    import_torchvision()
    from peft import LoraConfig, get_peft_model

    lora = Lora()
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, bias="none",
        target_modules=[name for name in TARGETS if name in names],
    )  # fmt: skip
    with warnings.catch_warnings():  # peft asks for every attribute, deprecated ones, too
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, config).get_base_model()


def moved(network: nn.Module, device: torch.device) -> Any:
    """Return the network on a device. Loaded weights, which networks share, stay where they are.

    So adapters are always drawn on the CPU: a seed means the same on every device.
    """
    return network if device.type == "cpu" else copy.deepcopy(network).to(device)


def fingerprint(source: str) -> str:
    """Return a hash of the pretrained weights and of :data:`SETTINGS`, for results' settings."""
    return _fingerprint(_folder(source))


def forget() -> None:
    """Forget loaded models, so that they are read anew: their files may have changed."""
    _classifier.cache_clear()
    _fingerprint.cache_clear()


class Inputs:
    """Turn images into what the ViT takes, with the model's own processor.

    Args:
        source: Hub id, local folder, or ``vit_small``.
        device: Device of the tensors.
        crop_seed: Seed of a random resized crop of every training image; None: no crops.
    """

    def __init__(self, source: str, device: str, crop_seed: int | None = None):
        self.network = moved(ViT(_pretrained(source)), torch.device(device))
        self.processor = _load(source, transformers().AutoImageProcessor)
        self.device, self.crop_seed = device, crop_seed

    def __call__(self, pixels: np.ndarray, split: str) -> tuple[Tensor, np.ndarray | None]:
        """Return prepared images [N T 4D] of uint8 pixels [N H W] or [N H W 3], and crops [N 4]."""
        rgb_N3HW = torch.from_numpy(pixels.reshape(*pixels.shape[:3], -1).copy()).movedim(-1, 1)
        rgb_N3HW = rgb_N3HW.expand(-1, 3, -1, -1)
        crops_N4 = None
        if split == "train" and self.crop_seed is not None:
            crops_N4 = random_crops(len(rgb_N3HW), rgb_N3HW.shape[-2:], self.crop_seed)
            rgb_N3HW = resized_crops(rgb_N3HW, crops_N4, self.network.image_size)
        resizing = {} if crops_N4 is None else {"do_resize": False}
        return self._prepared(rgb_N3HW, resizing), crops_N4

    @torch.no_grad()
    def _prepared(self, rgb_N3HW: Tensor, resizing: dict[str, bool]) -> Tensor:
        """Prepare images in place: with ViT-B/16 one takes 2.4 MB, so there is no second copy."""
        prepared: Tensor | None = None
        for start in range(0, len(rgb_N3HW), _BATCH):
            batch = rgb_N3HW[start : start + _BATCH]
            pixels = self.processor(batch, return_tensors="pt", **resizing)["pixel_values"]
            tokens_BT4D = self.network.prepare(pixels.to(self.device))
            if prepared is None:
                prepared = tokens_BT4D.new_empty(len(rgb_N3HW), *tokens_BT4D.shape[1:])
            prepared[start : start + _BATCH] = tokens_BT4D
        assert prepared is not None  # no split is empty
        return prepared


def random_crops(count: int, size: Sequence[int], seed: int) -> np.ndarray:
    """Draw boxes [N 4] (top, left, height, width) of torchvision's ``RandomResizedCrop``."""
    transform = import_torchvision().transforms.RandomResizedCrop
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        image = torch.empty(3, *size)  # only its size is looked at
        boxes = [
            transform.get_params(image, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
            for _ in range(count)
        ]
    return np.array(boxes, dtype=np.int64)


def resized_crops(rgb_N3HW: Tensor, crops_N4: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Return each image's crop at the model's size [N 3 H W]."""
    resized_crop: Callable = import_torchvision().transforms.functional.resized_crop
    return torch.stack(
        [
            resized_crop(image, *map(int, box), list(size), antialias=True)
            for image, box in zip(rgb_N3HW, crops_N4, strict=True)
        ]
    )


def transformers() -> Any:
    """Import the package when it is needed, which takes seconds."""
    import_torchvision()  # transformers imports it, and that has to work without a GPU, too
    # A thread that gets no memory spins for ever (CPython 3.11), and who waits for it hangs.
    os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _folder(source: str) -> str:
    """Return what ``from_pretrained`` is given."""
    if source == "vit_small":
        return str(paths.pretrained(source))
    return str(paths.local_folder(source) or source)


def _pretrained(source: str) -> Any:
    return _classifier(_folder(source))


@cache
def _classifier(source: str) -> Any:
    kind = transformers().ViTForImageClassification
    model, info = _load(source, kind, output_loading_info=True)
    _check_loaded(source, info)
    return model.float().eval().requires_grad_(False)


def _check_loaded(source: str, info: dict) -> None:
    """Refuse weights that would be random: all but the head, which is replaced, and the pooler."""
    missing = [
        name for name in info["missing_keys"] if not name.startswith(("classifier", "vit.pooler"))
    ]
    if missing:
        raise UserError(
            f"the model {source!r} lacks {len(missing)} weights of a ViT image classifier "
            f"({missing[0]}, ...), which would be random: --model takes a whole one"
        )


@cache
def _fingerprint(source: str) -> str:
    digest = hashlib.sha256()
    for name, p in named_weights(_classifier(source).vit):
        digest.update(name.encode() + p.detach().cpu().contiguous().numpy().tobytes())
    settings = {
        "model": _classifier(source).config.to_dict(),
        "processor": _load(source, transformers().AutoImageProcessor).to_dict(),
    }
    chosen = [
        {name: settings[kind].get(name) for name in names} for kind, names in SETTINGS.items()
    ]
    digest.update(json.dumps(chosen, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def _load(source: str, kind: Any, **arguments: Any) -> Any:
    folder = _folder(source)
    try:
        return kind.from_pretrained(folder, **arguments)
    except Exception as error:  # transformers, huggingface_hub and safetensors raise their own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(
            f"the model {source!r} cannot be loaded ({reason}): --model takes a ViT image "
            "classifier's hub id or local folder; --model vit_small needs no download"
        ) from error
