"""Vision transformers of a few hundred parameters, under the names of new and old transformers."""

from types import SimpleNamespace

import torch
from torch import nn

from bayestda.experiments.networks.pretrained import adapted, transformers

SIZE, HIDDEN = 8, 12  # pixels a side, in patches of 4; features


def tiny_vit(layers=2, heads=3, seed=1, **config):
    """A random transformers model in evaluation mode, in float64; all parameters matter."""
    package = transformers()
    settings = package.ViTConfig(
        image_size=SIZE, patch_size=4, hidden_size=HIDDEN, intermediate_size=20,
        num_hidden_layers=layers, num_attention_heads=heads, num_labels=7,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **config,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = package.ViTForImageClassification(settings)
    return shaken(model.double().eval(), seed)


def shaken(module, seed, std=0.3):
    """The module, its parameters moved at random: no bias or lora_B stays zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype), alpha=std)
    return module


def adapted_vit(layers=2, heads=3):
    """A tiny ViT with LoRA in float64: adapters and head are random, alpha / r is not 1."""
    network = scaled(adapted(tiny_vit(layers, heads)).double().eval())
    trainable = nn.ParameterList(p for p in network.parameters() if p.requires_grad)
    shaken(trainable, seed=2)
    return network


def scaled(network):
    """The network, with an alpha / r that can be told from 1."""
    for module in network.modules():
        if hasattr(module, "lora_A"):
            module.scaling["default"] = 0.7
    return network


def images(count, seed=3):
    """Pixels as a processor returns them [B 3 H W]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)


def save(folder, layers=1, **config):
    """A random tiny ViT and its processor as ``from_pretrained`` reads them."""
    tiny_vit(layers, **config).float().save_pretrained(folder)
    processor = transformers().ViTImageProcessor(
        size={"height": SIZE, "width": SIZE},
        image_mean=[0.4, 0.5, 0.6],
        image_std=[0.5, 0.3, 0.4],
    )
    processor.save_pretrained(folder)
    return folder


class OldNames(nn.Module):
    """The layers of a model of new transformers, under the names that they had in older ones."""

    def __init__(self, model):
        super().__init__()
        self.config = model.config
        self.vit = nn.Module()
        self.vit.embeddings, self.vit.layernorm = model.vit.embeddings, model.vit.layernorm
        blocks = [_old_block(block) for block in model.vit.layers]
        self.vit.encoder = _module(layer=nn.ModuleList(blocks))
        self.classifier = model.classifier

    def forward(self):
        raise AssertionError("only tda's forward pass is used")


def _old_block(block):
    attention = block.attention
    inner = _module(query=attention.q_proj, key=attention.k_proj, value=attention.v_proj)
    return _module(
        attention=_module(attention=inner, output=_module(dense=attention.o_proj)),
        intermediate=_module(dense=block.mlp.fc1),
        output=_module(dense=block.mlp.fc2),
        layernorm_before=block.layernorm_before,
        layernorm_after=block.layernorm_after,
    )


def _module(**children):
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def other_model(model_type):
    """What tells the type of a model that is no ViT."""
    return SimpleNamespace(config=SimpleNamespace(model_type=model_type), classifier=None)
