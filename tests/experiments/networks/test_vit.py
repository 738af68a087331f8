"""The ViT with LoRA against transformers and peft in float64, and its way from folder to input."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_vit import SIZE, OldNames, adapted_vit, images, other_model, save, scaled, tiny_vit
from torch import nn
from torch.func import vmap

from bayestda.errors import UserError
from bayestda.experiments.networks import pretrained
from bayestda.experiments.networks.pretrained import (
    Inputs,
    adapted,
    fingerprint,
    lora_vit,
    random_crops,
    resized_crops,
    transformers,
)
from bayestda.experiments.networks.torchvision_operators import import_torchvision
from bayestda.experiments.networks.vit import ViT, dropped, part
from bayestda.gradients.factored import Factored, Formed
from bayestda.gradients.hooks import capture
from bayestda.gradients.looks import ways_of
from bayestda.gradients.sample import output_cotangents, value_cotangents
from bayestda.model.dropout import dropout_masks
from bayestda.model.examples import Data
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters, channels_last_copy
from bayestda.training.loop import output, train
from bayestda.training.members import Members, data_order
from bayestda.training.recipe import Recipe

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
HEADS = (2, 3)
every_depth = pytest.mark.parametrize("layers", [1, 2, 3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save(tmp_path_factory.mktemp("models") / "tiny", layers=2))


def logits(network, pixels):
    return network(network.prepare(pixels))


@every_depth
@pytest.mark.parametrize("heads", HEADS)
def test_logits_are_those_of_transformers(layers, heads):
    model = tiny_vit(layers, heads)
    torch.testing.assert_close(logits(ViT(model), images(5)), model(images(5)).logits, **CLOSE)


@every_depth
@pytest.mark.parametrize("heads", HEADS)
def test_logits_with_adapters_are_those_of_peft(layers, heads):
    network = adapted_vit(layers, heads)
    plain = tiny_vit(layers, heads)
    plain.classifier = network.model.classifier
    expected = network.model(images(5)).logits
    assert not torch.allclose(expected, plain(images(5)).logits, atol=0.1)  # adapters do something
    torch.testing.assert_close(logits(network, images(5)), expected, **CLOSE)


@every_depth
def test_layers_are_found_under_the_names_of_older_transformers(layers):
    model = tiny_vit(layers)
    old = OldNames(model)
    torch.testing.assert_close(logits(ViT(old), images(4)), model(images(4)).logits, **CLOSE)
    network, expected = scaled(adapted(old).double().eval()), adapted_vit(layers)
    names = Parameters(network).shapes
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names if "lora" in name} == {
        "query",
        "value",
    }
    Parameters(network).write(network, Parameters(expected).read(expected))
    torch.testing.assert_close(logits(network, images(4)), logits(expected, images(4)), **CLOSE)


def test_vit_base_has_the_parameters_of_the_paper():
    with torch.device("meta"):
        model = transformers().ViTForImageClassification(
            transformers().ViTConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        )
        assert Parameters(adapted(model)).count == 597_514


def test_adapters_and_head_alone_are_trainable(folder):
    network = lora_vit(folder, seed=1)
    shapes = Parameters(network).shapes
    assert {name.rpartition(".")[2] for name in shapes} == {"weight", "bias"}
    for name in shapes:
        assert "lora_" in name or name.startswith("model.classifier.")
    adapters = [name for name in shapes if "lora_" in name]
    assert len(adapters) == 2 * 2 * 2  # A and B of query and value of two blocks
    assert shapes["model.classifier.weight"] == (10, 12)


def test_the_seed_alone_determines_adapters_and_head(folder):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, other = (lora_vit(folder, seed) for seed in (1, 2))
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(12)
    again = lora_vit(folder, 1)
    layout = Parameters(first)
    assert layout.read(first).equal(layout.read(again))
    for name in layout.shapes:
        same = first.get_parameter(name).equal(other.get_parameter(name))
        assert same == ("lora_B" in name or name.endswith("bias"))  # these start at zero


def test_frozen_parameters_are_shared_and_trainable_ones_are_not(folder):
    first, second = (dict(lora_vit(folder, 1).named_parameters()) for _ in range(2))
    for name, p in first.items():
        assert (second[name] is p) == (not p.requires_grad)


def rows_at(network, prepared, cotangents):
    ways = ways_of(network, Classification(), prepared)
    return capture(network, Classification(), prepared, cotangents, ways)


def explicit_gradients(network, outputs):
    """Gradients [B L P] of outputs [B L] in the trainable parameters, one after the other."""
    leaves = [p for p in network.parameters() if p.requires_grad]
    rows = [torch.autograd.grad(scalar, leaves, retain_graph=True) for scalar in outputs.flatten()]
    gradients = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    return gradients.unflatten(0, outputs.shape)


def formed(network, captured):
    """Gradients [B L P] of captured rows; a bias follows its weight, within rows as in θ."""
    named = {}
    for name, rows in captured.items():
        layer = network.get_submodule(name)
        if isinstance(rows, Factored):
            outer = rows.delta[..., None] * rows.activation[:, None, None]
            weight, bias = outer[..., : layer.in_features], outer[..., layer.in_features :]
            rows = Formed(torch.cat([weight.flatten(2), bias.flatten(2)], dim=-1))
        named[name] = rows.values
    layers = dict.fromkeys(name.rpartition(".")[0] for name in Parameters(network).shapes)
    return torch.cat([named[name] for name in layers], dim=-1)


@every_depth
def test_gradients_of_each_example_are_those_of_peft(layers):
    network, y = adapted_vit(layers), torch.tensor([3, 0, 9, 3])
    cotangents = value_cotangents(Classification().loss, y)
    rows = formed(network, rows_at(network, network.prepare(images(4)), cotangents))
    loss_B = [
        Classification().loss(network.model(pixels[None]).logits, label[None])
        for pixels, label in zip(images(4), y, strict=True)
    ]
    torch.testing.assert_close(rows, explicit_gradients(network, torch.stack(loss_B)), **CLOSE)


@every_depth
def test_jacobians_of_each_example_are_those_of_peft(layers):
    network = adapted_vit(layers)
    rows = formed(network, rows_at(network, network.prepare(images(3)), output_cotangents))
    output_BK = torch.cat([network.model(pixels[None]).logits for pixels in images(3)])
    torch.testing.assert_close(rows, explicit_gradients(network, output_BK), **CLOSE)


def test_gradients_of_fresh_adapters_are_those_of_peft():
    network = adapted(tiny_vit()).double().eval()  # lora_B = 0: gradients in lora_A are 0
    rows = formed(network, rows_at(network, network.prepare(images(3)), output_cotangents))
    output_BK = torch.cat([network.model(pixels[None]).logits for pixels in images(3)])
    torch.testing.assert_close(rows, explicit_gradients(network, output_BK), **CLOSE)
    assert rows.abs().sum() > 0


def test_stacked_members_have_the_outputs_of_single_ones():
    network = adapted_vit()
    theta_RP = torch.randn(3, Parameters(network).count, dtype=torch.float64) / 3
    x = Data(network.prepare(images(5)), torch.zeros(5, dtype=torch.long), np.arange(5))
    single, stacked = (
        output(network, Classification(), theta_RP, x, stacked=flag) for flag in (False, True)
    )
    torch.testing.assert_close(single, stacked, **CLOSE)


@every_depth
def test_stacked_members_train_like_single_ones_with_the_same_dropout(layers):
    network = adapted_vit(layers)
    data = Data(network.prepare(images(7)), torch.arange(7), np.arange(7))
    weight_RN = torch.rand(4, 7, generator=torch.Generator().manual_seed(1)).double()
    theta_1P = Parameters(network).read(network)[None]
    recipe = Recipe(epochs=2, batch_size=3, lr=0.01, linear_decay=True, keep=1)
    members = Members(theta_1P, data_order(5, 7, 2), weight_RN, dropout_seed=6)
    single, stacked = (
        torch.cat([theta for _, theta in train(network, Classification(), data, recipe, members,
                                               chunk=chunk)], dim=1)
        for chunk in (1, 3)
    )  # fmt: skip
    torch.testing.assert_close(single, stacked, **CLOSE)


def test_dropout_in_training_is_that_of_peft():
    network, x = adapted_vit(layers=1), images(5)  # later, peft draws masks for more tokens
    prepared, without = network.prepare(x), logits(network, x)
    network.train()
    with dropout_masks(4, 0, torch.device("cpu")):
        expected = network.model(x).logits
    with dropout_masks(4, 0, torch.device("cpu")):
        torch.testing.assert_close(network(prepared), expected, **CLOSE)
    assert not torch.allclose(expected, without, atol=0.1)


@pytest.mark.parametrize("name", ["query", "value"])
@pytest.mark.parametrize("block", [0, 1, 2])
def test_adapters_of_every_block_have_dropout_in_training(block, name):
    network, x = adapted_vit(layers=3), images(5)
    prepared = network.prepare(x)
    for module in network.modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"].p = 0.0
    torch.testing.assert_close(network.train()(prepared), logits(network.eval(), x), **CLOSE)
    part(network.model.vit.layers[block], name).lora_dropout["default"].p = 0.5
    first, other = (network.train()(prepared) for _ in range(2))
    assert not torch.allclose(first, other, atol=1e-3)


def test_images_of_another_size_are_refused():
    with pytest.raises(UserError, match=r"images are \(12, 8\), the model takes \(8, 8\)"):
        ViT(tiny_vit()).prepare(torch.zeros(1, 3, 12, 8, dtype=torch.float64))


@pytest.mark.parametrize("where", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_a_model_with_dropout_of_its_own_is_refused(where):
    model = tiny_vit()
    setattr(model.config, where, 0.1)
    with pytest.raises(UserError, match=f"set .*{where}.* to 0 in its config.json"):
        ViT(model)


def test_a_model_that_is_no_vit_is_refused():
    with pytest.raises(UserError, match="type 'deit': --model takes a ViT image classifier"):
        ViT(other_model("deit"))


@pytest.mark.parametrize("found", ["no/such-model", "empty folder", "broken weights", "deit"])
def test_a_model_that_cannot_be_loaded_is_named_with_a_remedy(found, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    source = found
    if found != "no/such-model":
        source = str(tmp_path / "model")
        Path(source).mkdir()
    if found == "broken weights":
        shutil.copytree(folder, source, dirs_exist_ok=True)
        (tmp_path / "model" / "model.safetensors").write_bytes(b"x")
    if found == "deit":
        package = transformers()
        package.DeiTConfig(hidden_size=12, num_hidden_layers=1).save_pretrained(source)
    with pytest.raises(UserError, match="--model vit_small needs no download") as refused:
        lora_vit(source, seed=1)
    assert repr(source) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_fingerprint_is_that_of_weights_and_settings(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert fingerprint(str(moved)) == fingerprint(folder)
    assert fingerprint(str(save(tmp_path / "deeper", layers=3))) != fingerprint(folder)
    same_weights = save(tmp_path / "two_heads", layers=2, heads=2)
    assert fingerprint(str(same_weights)) != fingerprint(folder)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("preprocessor_config.json", {"image_mean": [0.0, 0.5, 0.6]}),
        ("preprocessor_config.json", {"resample": 0}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"layer_norm_eps": 1e-3}),
        ("config.json", {"initializer_range": 0.5}),
    ],
)
def test_the_fingerprint_changes_with_what_changes_scores(file, change, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    settings = json.loads((other / file).read_text())
    (other / file).write_text(json.dumps({**settings, **change}))
    assert fingerprint(str(other)) != fingerprint(folder)


def test_the_fingerprint_is_not_changed_by_names_and_versions(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    settings = json.loads((other / "config.json").read_text())
    named = {"transformers_version": "5.0.0", "label2id": {}, "id2label": {}}
    (other / "config.json").write_text(json.dumps({**settings, **named}))
    assert fingerprint(str(other)) == fingerprint(folder)


def test_the_fingerprint_is_that_of_results_already_made():
    assert fingerprint("vit_small") == "466e1273d9e39985"


def test_the_fingerprint_is_the_same_of_older_transformers(folder, monkeypatch):
    expected, model = fingerprint(folder), pretrained._classifier(folder)
    old = OldNames(model)
    assert "query" in "".join(name for name, _ in old.vit.named_parameters())
    pretrained.forget()
    monkeypatch.setattr(pretrained, "_classifier", lambda _source: old)
    assert pretrained._fingerprint.__wrapped__(folder) == expected


def test_a_model_that_lacks_weights_is_refused(folder, tmp_path):
    partial = shutil.copytree(folder, tmp_path / "partial")
    weights = load_file(partial / "model.safetensors")
    dropped = next(
        name for name in weights if name.endswith("fc1.weight") or "intermediate" in name
    )
    kept = {name: value for name, value in weights.items() if name != dropped}
    save_file(kept, partial / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="lacks 1 weights .* would be random"):
        lora_vit(str(partial), seed=1)


def test_a_model_without_a_head_gets_a_new_one(folder, tmp_path):
    headless = shutil.copytree(folder, tmp_path / "headless")
    weights = load_file(headless / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "classifier" not in name}
    save_file(kept, headless / "model.safetensors", {"format": "pt"})
    with_head, without = (lora_vit(str(source), seed=1) for source in (folder, headless))
    for (_, p), (_, q) in zip(
        with_head.named_parameters(), without.named_parameters(), strict=True
    ):
        assert p.equal(q)


def test_training_images_are_cropped_for_a_processor_that_resizes_the_shortest_edge(
    folder, tmp_path
):
    other = shutil.copytree(folder, tmp_path / "other")
    processor = transformers().CLIPImageProcessor(
        size={"shortest_edge": SIZE + 2}, crop_size={"height": SIZE, "width": SIZE},
        image_mean=[0.4, 0.5, 0.6], image_std=[0.5, 0.3, 0.4],
    )  # fmt: skip
    processor.save_pretrained(other)
    x, crops = Inputs(str(other), "cpu", crop_seed=4)(PIXELS["colour"], "train")
    expected, same = Inputs(folder, "cpu", crop_seed=4)(PIXELS["colour"], "train")
    np.testing.assert_array_equal(crops, same)
    torch.testing.assert_close(x, expected)


def test_stacked_and_single_masks_are_one(folder):
    dropout, inputs = nn.Dropout(0.4), torch.ones(6, 5)
    for draw in (lambda x: dropped(dropout, x), dropout):
        torch.manual_seed(3)
        alone = draw(inputs)
        torch.manual_seed(3)
        assert dropped(dropout, inputs).equal(alone)
    torch.manual_seed(3)
    stacked = vmap(lambda x: dropped(dropout, x), randomness="same")(inputs.expand(3, 6, 5))
    assert all(member.equal(alone) for member in stacked)
    assert dropped(dropout.eval(), inputs) is inputs
    assert Path(folder).is_dir()


def test_a_channels_last_copy_leaves_shared_weights_as_they_are(folder):
    network = lora_vit(folder, seed=1)
    (name,) = (name for name, p in network.named_parameters() if p.ndim == 4)
    weight = network.get_parameter(name)
    before = weight.stride()
    copied = channels_last_copy(network)
    assert weight.stride() == before
    assert copied.get_parameter(name).is_contiguous(memory_format=torch.channels_last)


PIXELS = {
    "gray": np.random.default_rng(1).integers(0, 256, (5, 28, 28), dtype=np.uint8),
    "colour": np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8),
}


@pytest.mark.parametrize("kind", sorted(PIXELS))
def test_inputs_are_prepared_images_of_the_models_processor(kind, folder):
    x, crops = Inputs(folder, "cpu")(PIXELS[kind], "train")
    processor = transformers().AutoImageProcessor.from_pretrained(folder)
    rgb = [Image.fromarray(image).convert("RGB") for image in PIXELS[kind]]
    expected = processor(rgb, return_tensors="pt")["pixel_values"]
    assert expected.shape == (5, 3, SIZE, SIZE)
    network = lora_vit(folder, seed=1)
    assert crops is None
    torch.testing.assert_close(x, network.prepare(expected), rtol=1e-5, atol=1e-5)


def test_training_images_alone_are_cropped(folder):
    pixels = PIXELS["colour"]
    cropping, plain = Inputs(folder, "cpu", crop_seed=4), Inputs(folder, "cpu")
    (train_x, crops), (test_x, none) = (cropping(pixels, split) for split in ("train", "test"))
    assert none is None
    assert test_x.equal(plain(pixels, "test")[0])
    np.testing.assert_array_equal(crops, random_crops(5, (32, 32), 4))
    cut = [
        Image.fromarray(image[top : top + height, left : left + width]).resize((SIZE, SIZE), 2)
        for image, (top, left, height, width) in zip(pixels, crops, strict=True)
    ]
    expected, _ = plain(np.stack(cut), "train")
    error = (train_x - expected).abs().mean() / expected.abs().mean()
    assert error < 0.01  # PIL rounds pixels otherwise
    assert (train_x - test_x).abs().mean() / expected.abs().mean() > 0.05


def test_crops_are_those_of_torchvision():
    transform = import_torchvision().transforms.RandomResizedCrop((SIZE, SIZE), antialias=True)
    image = torch.from_numpy(PIXELS["colour"][0]).movedim(-1, 0)
    for seed in range(5):
        box = random_crops(1, (32, 32), seed)
        cropped = resized_crops(image[None], box, (SIZE, SIZE))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            assert cropped[0].equal(transform(image))


def test_crops_lie_inside_the_image_and_depend_on_the_seed_alone():
    before = torch.get_rng_state()
    top, left, height, width = (crops := random_crops(500, (28, 30), 7)).T
    assert torch.get_rng_state().equal(before)
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert (top + height).max() <= 28
    assert (left + width).max() <= 30
    assert len(np.unique(crops, axis=0)) > 450
    np.testing.assert_array_equal(crops, random_crops(500, (28, 30), 7))
    assert not np.array_equal(crops, random_crops(500, (28, 30), 8))
