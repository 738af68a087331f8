"""What attribution of 10⁶ training by 10⁴ test examples takes with a model of 1 B parameters.

    python benchmarks/plan_billion.py
    python benchmarks/plan_billion.py --train 100000 --test 1000 --tokens 2048 --rank 32 --workers 8

One sample of θ. The model is a GPT-NeoX of Pythia-1B's sizes (Biderman et al. 2023), built without
weights; FLOPs of a sequence are counted by ``FlopCounterMode``, everything else is sizes
multiplied. Two ways: LoGra (``influence_projected``), k = rank² numbers a linear layer, and TRAK,
rank² numbers in all.

Reads   nothing
Writes  a markdown table and CSV to stdout; with --output PREFIX also files
Takes   10 seconds on one CPU core
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from flops import Work, flop
from report import publish
from torch import nn

from tda.errors import guarded
from tda.flag_types import count
from tda.networks import pretrained
from tda.planning.gpus import PEAK_TFLOPS, Gpu

PYTHIA_1B = {
    "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 8,
    "intermediate_size": 8192, "vocab_size": 50304,
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What is counted of a language model, for one sequence.

    Attributes:
        parameters: all of them.
        layers: (inputs, outputs) of every linear layer that is attributed through.
        forward: FLOPs.
        to_activations: FLOPs of forward and backward with frozen weights.
        to_weights: FLOPs of forward and backward for all parameters.
    """

    parameters: int
    layers: tuple[tuple[int, int], ...]
    forward: int
    to_activations: int
    to_weights: int


def model(sizes: dict[str, int], tokens: int) -> Model:
    """Counted without weights."""
    transformers = pretrained.transformers()
    config = transformers.GPTNeoXConfig(
        **sizes, max_position_embeddings=tokens, attn_implementation="eager", use_cache=False
    )
    with torch.device("meta"):
        network = transformers.GPTNeoXForCausalLM(config)
        embedded_1TD = torch.zeros(1, tokens, config.hidden_size)
        mask_11TT = torch.zeros(1, 1, tokens, tokens)
    linear = [each for each in network.modules() if isinstance(each, nn.Linear)]
    head = network.get_output_embeddings()

    def passed(*, backward: bool, frozen: bool = True) -> int:
        network.requires_grad_(not frozen)
        inputs = embedded_1TD.clone().requires_grad_(backward)

        def run() -> None:
            with torch.set_grad_enabled(backward):
                logits = network(inputs_embeds=inputs, attention_mask=mask_11TT).logits
            if backward:
                logits.sum().backward()

        return flop(Work("", run))

    return Model(
        sum(each.numel() for each in network.parameters()),
        tuple((each.in_features, each.out_features) for each in linear if each is not head),
        passed(backward=False), passed(backward=True), passed(backward=True, frozen=False),
    )  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How much is attributed: training and test examples, tokens of each, k = rank² a layer."""

    num_train: int
    num_test: int
    tokens: int
    rank: int
    workers: int


def logra(counted: Model, scale: Scale) -> dict[str, float]:
    """FLOPs and bytes of influence between projected gradients (Choe et al. 2024).

    A layer's inputs and output gradients of every token are projected, and multiplied together;
    the curvature is a matrix for each layer, in float64 as in the library.
    """
    pairs = scale.num_train * scale.num_test
    sizes = [(min(scale.rank, ins), min(scale.rank, outs)) for ins, outs in counted.layers]
    kept = [ins * outs for ins, outs in sizes]
    projection = sum(
        2 * scale.tokens * (layer[0] * own[0] + layer[1] * own[1] + own[0] * own[1])
        for layer, own in zip(counted.layers, sizes, strict=True)
    )
    examples = scale.num_train + scale.num_test
    curvature_bytes = 8.0 * sum(size**2 for size in kept)
    test_bytes = 4.0 * scale.num_test * sum(kept)
    return {
        "gradient passes": examples,
        "FLOP of gradients": examples * (counted.to_activations + projection),
        "FLOP of curvature": scale.num_train * sum(2.0 * size**2 for size in kept),
        "FLOP of scores": 2.0 * pairs * sum(kept),
        "bytes of an example, float32": 4 * sum(kept),
        "bytes of all, float32": 4 * scale.num_train * sum(kept),
        "bytes of all, float16": 2 * scale.num_train * sum(kept),
        "bytes of curvature": curvature_bytes,
        "bytes of scores": 4 * pairs,
        "network: curvature, summed over workers": 2 * curvature_bytes * (scale.workers - 1),
        "network: test side to all workers": test_bytes * scale.workers,
        "network: scores": 4 * pairs,
    }


def trak(counted: Model, scale: Scale) -> dict[str, float]:
    """FLOPs and bytes of TRAK (Park et al. 2023): whole gradients, projected to rank² numbers."""
    size, pairs = scale.rank**2, scale.num_train * scale.num_test
    examples = scale.num_train + scale.num_test
    return {
        "gradient passes": examples,
        "FLOP of gradients": examples * counted.to_weights,
        "FLOP of projections": 2.0 * examples * counted.parameters * size,
        "FLOP of curvature": 2.0 * scale.num_train * size**2,
        "FLOP of scores": 2.0 * pairs * size,
        "bytes of an example, float32": 4 * size,
        "bytes of all, float32": 4 * scale.num_train * size,
        "bytes of all, float16": 2 * scale.num_train * size,
        "bytes of curvature": 8 * size**2,
        "bytes of scores": 4 * pairs,
        "network: curvature, summed over workers": 2 * 8 * size**2 * (scale.workers - 1),
        "network: test side to all workers": 4 * scale.num_test * size * scale.workers,
        "network: scores": 4 * pairs,
    }


def with_hours(amounts: dict[str, float]) -> dict[str, float]:
    """The same with GPU-hours of all FLOPs."""
    whole = sum(value for name, value in amounts.items() if name.startswith("FLOP"))
    hours = {f"GPU-hours, {name}": whole / (Gpu(name).tflops * 1e12) / 3600 for name in PEAK_TFLOPS}
    return {**amounts, **hours}


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=count, default=10**6, help="default: 10⁶")
    parser.add_argument("--test", type=count, default=10**4, help="default: 10⁴")
    parser.add_argument("--tokens", type=count, default=512, help="of a sequence; default: 512")
    parser.add_argument("--rank", type=count, default=64, help="k = rank²; default: 64")
    parser.add_argument("--workers", type=count, default=64, help="machines; default: 64")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    return parser.parse_args()


def _main() -> None:
    flags = _parse()
    scale = Scale(flags.train, flags.test, flags.tokens, flags.rank, flags.workers)
    counted = model(PYTHIA_1B, scale.tokens)
    ways = {"LoGra": with_hours(logra(counted, scale)), "TRAK": with_hours(trak(counted, scale))}
    rows = [
        {"amount": name, **{way: f"{own.get(name, 0):.3g}" for way, own in ways.items()}}
        for name in dict.fromkeys(name for own in ways.values() for name in own)
    ]
    note = (
        f"{counted.parameters:,} parameters, {len(counted.layers)} linear layers; a sequence of "
        f"{scale.tokens} tokens takes {counted.forward / 1e12:.3g} TFLOP forward, "
        f"{counted.to_activations / 1e12:.3g} with backward to the activations, "
        f"{counted.to_weights / 1e12:.3g} with all weights. N = {scale.num_train:,}, M = "
        f"{scale.num_test:,}, k = {scale.rank**2:,}, {scale.workers} workers. Hours: "
        f"{Gpu().basis}, and likewise."
    )
    publish(pd.DataFrame(rows), [note], flags.output)


if __name__ == "__main__":
    guarded(_main)
