"""Vision transformers with LoRA, computed as attribution needs them: often, and frozen below.

The weights, the adapters and their initialisation are those of transformers and peft; only the
forward pass is this file's, equal to theirs and shorter in two places:

- What no trained parameter precedes (patch embedding, the first block's norm and projections) is
  computed once per image: :meth:`ViT.prepare` makes it, and the network starts from there.
- Only the class token of the last block is read. With one query per head, keys and values of the
  other tokens need not be formed: :math:`q^\\top W_K x_t = (W_K^\\top q)^\\top x_t` and
  :math:`\\sum_t a_t W_V x_t = W_V \\sum_t a_t x_t`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bayestda.errors import UserError

PARTS = {  # a block's layers: their names in newer transformers, and in older ones
    "query": ("attention.q_proj", "attention.attention.query"),
    "key": ("attention.k_proj", "attention.attention.key"),
    "value": ("attention.v_proj", "attention.attention.value"),
    "attended": ("attention.o_proj", "attention.output.dense"),
    "before": ("layernorm_before", "layernorm_before"),
    "after": ("layernorm_after", "layernorm_after"),
    "up": ("mlp.fc1", "intermediate.dense"),
    "down": ("mlp.fc2", "output.dense"),
}


class ViT(nn.Module):
    """Compute the forward pass of a ``ViTForImageClassification``, with or without LoRA adapters.

    Args:
        model: Model of transformers; peft may have replaced its layers by adapted ones.

    Raises:
        UserError: The model is no such classifier, or has dropout of its own.
    """

    def __init__(self, model: Any):
        super().__init__()
        config = model.config
        if config.model_type != "vit" or not hasattr(model, "classifier"):
            raise UserError(
                f"the model is of type {config.model_type!r}: --model takes a ViT image classifier"
            )
        if config.hidden_dropout_prob or config.attention_probs_dropout_prob:
            raise UserError(
                "the model has dropout of its own: set hidden_dropout_prob and "
                "attention_probs_dropout_prob to 0 in its config.json"
            )
        from transformers.activations import ACT2FN

        self.model: Any = model
        self.activation = ACT2FN[config.hidden_act]
        self.num_heads = config.num_attention_heads

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that the model takes."""
        size = self.model.config.image_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def prepare(self, pixels_BCHW: Tensor) -> Tensor:
        """Compute what precedes all adapters: tokens and their frozen q, k, v [B T 4D].

        Raises:
            UserError: Images are not of the model's size.
        """
        size = self.image_size
        if tuple(pixels_BCHW.shape[-2:]) != size:
            raise UserError(f"images are {tuple(pixels_BCHW.shape[-2:])}, the model takes {size}")
        block = self._blocks()[0]
        tokens_BTD = self.model.vit.embeddings(pixels_BCHW)
        normed_BTD = part(block, "before")(tokens_BTD)
        frozen = [_frozen(part(block, name))(normed_BTD) for name in ("query", "key", "value")]
        return torch.cat([tokens_BTD, *frozen], dim=-1)

    def forward(self, prepared_BT4D: Tensor) -> Tensor:
        """Return logits [B K] of what :meth:`prepare` returned."""
        first, *middle = self._blocks()
        tokens_BTD, *frozen = prepared_BT4D.chunk(4, dim=-1)
        tokens_BTD = self._block(first, tokens_BTD, frozen)
        for block in middle[:-1]:
            tokens_BTD = self._block(block, tokens_BTD)
        class_BD = self._class_token(middle[-1], tokens_BTD) if middle else tokens_BTD[:, 0]
        return self.model.classifier(self.model.vit.layernorm(class_BD))

    def _blocks(self) -> list[nn.Module]:
        return blocks(self.model.vit)

    def _block(
        self, block: nn.Module, tokens_BTD: Tensor, frozen: list[Tensor] | None = None
    ) -> Tensor:
        """Compute one block; ``frozen`` are its q, k, v without adapters, where they are known."""
        normed_BTD = part(block, "before")(tokens_BTD)
        layers = [part(block, name) for name in ("query", "key", "value")]
        frozen = frozen or [_frozen(layer)(normed_BTD) for layer in layers]
        query, key, value = (
            self._heads(plain + _adapter(layer, normed_BTD))
            for plain, layer in zip(frozen, layers, strict=True)
        )
        weights_BHTT = (query * query.shape[-1] ** -0.5 @ key.mT).softmax(-1)
        attended_BTD = (weights_BHTT @ value).transpose(-3, -2).flatten(-2)
        return self._rest(block, tokens_BTD, attended_BTD)

    def _class_token(self, block: nn.Module, tokens_BTD: Tensor) -> Tensor:
        """Compute the class token [B D] after a block of which nothing else is read."""
        query, key, value = (part(block, name) for name in ("query", "key", "value"))
        normed_BTD = part(block, "before")(tokens_BTD)
        class_BD = normed_BTD[:, 0]
        query_BHd = self._split(_frozen(query)(class_BD) + _adapter(query, class_BD))
        key_HdD = _frozen(key).weight.unflatten(0, (self.num_heads, -1))
        folded_BHD = torch.einsum("bhd,hde->bhe", query_BHd, key_HdD)
        scores_BHT = folded_BHD @ normed_BTD.mT * query_BHd.shape[-1] ** -0.5
        # The bias of the keys adds the same number to all tokens' scores: softmax removes it.
        weights_BHT = scores_BHT.softmax(-1)
        mixed_BHD = weights_BHT @ normed_BTD
        by_head = _frozen(value)(mixed_BHD) + _adapter(value, normed_BTD, weights_BHT)
        attended_BD = self._own_head(by_head)
        return self._rest(block, tokens_BTD[:, 0], attended_BD)

    def _rest(self, block: nn.Module, tokens: Tensor, attended: Tensor) -> Tensor:
        tokens = tokens + part(block, "attended")(attended)
        hidden = part(block, "up")(part(block, "after")(tokens))
        return tokens + part(block, "down")(self.activation(hidden))

    def _split(self, features: Tensor) -> Tensor:
        return features.unflatten(-1, (self.num_heads, -1))

    def _heads(self, features_BTD: Tensor) -> Tensor:
        return self._split(features_BTD).transpose(-3, -2)

    def _own_head(self, by_head_BHD: Tensor) -> Tensor:
        """Select from the features that each head computed those that are its own [B D]."""
        return self._split(by_head_BHD).diagonal(dim1=-3, dim2=-2).mT.flatten(-2)


def blocks(vit: Any) -> list[nn.Module]:
    """Return the blocks of a model of new or old transformers."""
    return list(vit.layers if hasattr(vit, "layers") else vit.encoder.layer)


def named_weights(vit: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights below the head; names and order are those of newer transformers."""
    modules = {"embeddings": vit.embeddings}
    for number, block in enumerate(blocks(vit)):
        modules |= {f"layers.{number}.{new}": part(block, own) for own, (new, _) in PARTS.items()}
    for prefix, module in (modules | {"layernorm": vit.layernorm}).items():
        yield from module.named_parameters(prefix)


def part(block: nn.Module, name: str) -> Any:
    """Return a block's layer under its name of new or old transformers."""
    new, old = PARTS[name]
    try:
        return block.get_submodule(new)
    except AttributeError:
        return block.get_submodule(old)


def _frozen(layer: Any) -> Any:
    """Return the pretrained layer below a LoRA layer."""
    return getattr(layer, "base_layer", layer)


def dropped(dropout: nn.Module, inputs: Tensor) -> Tensor:
    """Apply dropout, its mask drawn alike for one member and, under ``vmap``, for several.

    PyTorch's own draws other masks alone (in a fused kernel) than under ``vmap`` on a GPU; on a
    CPU the numbers are the same.
    """
    if not (isinstance(dropout, nn.Dropout) and dropout.training and dropout.p):
        return inputs
    kept = 1 - dropout.p
    mask = torch.empty(inputs.shape, dtype=inputs.dtype, device=inputs.device).bernoulli_(kept)
    return inputs * mask.div_(kept)


def _adapter(layer: Any, inputs: Tensor, weights_BHT: Tensor | None = None) -> Tensor | float:
    """Compute what LoRA adds to an output, s B A dropout(x), or that of weighted sums of x."""
    if not hasattr(layer, "lora_A"):
        return 0.0
    inputs = dropped(layer.lora_dropout["default"], inputs)
    inputs = inputs if weights_BHT is None else weights_BHT @ inputs
    return layer.lora_B["default"](layer.lora_A["default"](inputs)) * layer.scaling["default"]
