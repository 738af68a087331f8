"""CIFAR-10 and SST-2 through the stages of final-model-only attribution, on tiny grids."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny_bert
import torch
import xarray as xr
from image_folders import prepare, write_folder
from stage_scripts import run_path

import bayestda as tda
from bayestda.errors import UserError
from bayestda.experiments import final_models, paths
from bayestda.experiments.approximations import default_methods
from bayestda.experiments.data import sentences, subsets
from bayestda.experiments.final_models import PROTOCOLS, FinalModels
from bayestda.experiments.networks import bert, seeded
from bayestda.experiments.stages.context import forget
from bayestda.experiments.stages.final_context import FinalContext
from bayestda.experiments.stages.final_systems import final_system
from bayestda.experiments.stages.further_training import FurtherTraining
from bayestda.experiments.stages.options import Options
from bayestda.model.calls import AsCalled
from bayestda.training.memory import bytes_per_member
from bayestda.training.recipe import Recipe

FAST = ("--jobs", "1", "--device", "cpu")
TINY = {"num_train": 12, "num_test": 8, "num_left_out": 3, "num_evaluated": 4, "num_seeds": 1}


@pytest.fixture(autouse=True)
def read_anew():
    yield
    for task in ("cifar10_reduced", "sst2_reduced"):
        forget(final_system(FinalModels(task)))


@pytest.fixture
def grids(root, monkeypatch):
    """The reduced grids, smaller still."""
    for task, epochs in (("cifar10_reduced", 1), ("sst2_reduced", 3)):
        protocol = PROTOCOLS[task]
        training = replace(protocol.training, epochs=epochs, batch_size=4)
        further = {
            name: replace(own, epochs=1, batch_size=4) for name, own in protocol.further.items()
        }
        tiny = replace(protocol, training=training, further=further, width=8, **TINY)
        monkeypatch.setitem(PROTOCOLS, task, tiny)
    return root


def stage(name, *flags):
    return run_path(paths.REPOSITORY / "tda_fimo_scripts" / f"{name}.py", *flags, *FAST)


def both(*flags):
    return stage("train_final", *flags), stage("further_train", *flags)


def further(experiment, variant):
    return xr.load_dataset(paths.further(experiment, variant, "0x0"), engine="h5netcdf")


def test_the_protocols_are_those_of_the_paper():
    images, text = PROTOCOLS["cifar10"], PROTOCOLS["sst2"]
    assert (images.training.lr, images.training.weight_decay) == (0.4, 1e-3)
    assert (images.training.batch_size, images.further["sgd"].lr) == (512, 0.04)
    assert (text.training.lr, text.training.batch_size, text.training.clip) == (1e-5, 64, 1.0)
    assert (text.training.epochs, text.best, text.source) == (30, True, final_models.BERT)
    own = text.further["adamw"]
    assert (own.lr, own.epochs, text.every) == (1e-6, 1, 5)
    assert {images.num_left_out, text.num_left_out} == {50}
    assert text.measured(own, 67349)[:3] == [0, 5, 10] and text.measured(own, 67349)[-1] == 1053


@pytest.mark.usefixtures("grids")
def test_cifar10_runs_to_gold_scores_and_goes_on_where_it_was_killed(capsys, monkeypatch):
    assert both("--task", "cifar10_reduced") == (0, 0)
    measured = further("fimo_cifar10_reduced", "sgd")
    assert dict(measured["loss"].sizes) == {
        "train_seed": 1, "seed": 1, "step": 2, "left_out": 3, "test": 4,
    }  # fmt: skip
    scores = tda.fully_adjusted(measured.isel(train_seed=0))
    assert (scores.isel(step=0) == 0).all() and (scores.isel(step=1) != 0).all()
    assert measured["test_label"].isin(range(10)).all()
    paths.further("fimo_cifar10_reduced", "sgd", "0x0").unlink()
    compute, computed = FurtherTraining.compute, []

    def killed(self, context, items, chunk):
        if len(computed) == 2:
            computed.append("killed")
            raise KeyboardInterrupt
        computed.append(items.start)
        return compute(self, context, items, chunk)

    monkeypatch.setattr(FurtherTraining, "compute", killed)
    assert stage("further_train", "--task", "cifar10_reduced") == 130
    assert stage("further_train", "--task", "cifar10_reduced") == 0
    assert computed == [0, 1, "killed", 2, 3]
    again = further("fimo_cifar10_reduced", "sgd")
    xr.testing.assert_identical(again["loss"], measured["loss"])
    capsys.readouterr()
    assert stage("further_train", "--task", "cifar10_reduced") == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.usefixtures("grids")
def test_sst2_runs_to_gold_scores_with_and_without_lora(tmp_path):
    tiny_bert.write_reviews()
    flags = ("--task", "sst2_reduced", "--model", tiny_bert.save(tmp_path / "tiny"))
    for own in ((), ("--lora",)):
        assert both(*flags, *own) == (0, 0)
        name = FinalModels("sst2_reduced", flags[3], bool(own)).name
        measured = further(name, "adamw")
        assert measured["step"].values.tolist() == [0, 1, 2, 3]
        assert json.loads(measured.attrs["settings"])["further_clip"] == 1.0
        scores = tda.mean_adjusted(measured.isel(train_seed=0))
        assert (scores.isel(step=-1) != 0).all()
    assert name == "fimo_sst2_reduced_tiny_lora"


@pytest.mark.usefixtures("grids")
def test_default_methods_are_those_that_fit_size_and_optimiser(tmp_path):
    tiny_bert.write_reviews()
    text = ("--task", "sst2_reduced", "--model", tiny_bert.save(tmp_path / "tiny"))
    images = ("--task", "cifar10_reduced")
    cheap = {"grad_dot", "grad_cos", "datainf", "trak", "ekfac"}
    assert set(default_methods(FinalModels("sst2", lora=True))) == cheap
    for flags, expected in (
        (images, {*cheap, "horizon_ekfac"}),
        (text, {"grad_dot", "grad_cos"}),
    ):
        assert stage("train_final", *flags) == 0
        assert stage("approximate", *flags) == 0
        models = FinalModels(flags[1], flags[3] if len(flags) > 2 else "")
        assert set(default_methods(models)) == expected
        for method in expected:
            found = xr.load_dataset(
                paths.approximation(models.name, method, "0"), engine="h5netcdf"
            )
            assert np.isfinite(found["score"]).all() and (found["score"] != 0).any()


@pytest.mark.usefixtures("grids")
def test_ekfac_is_through_linear_and_convolutional_layers_alone():
    assert stage("train_final", "--task", "cifar10_reduced") == 0
    models = FinalModels("cifar10_reduced")
    context = FinalContext(final_system(models), models.finals()[0], Options(memory_gb=1.0))
    covered, network = context.layer_gradients.layout.shapes, context.final_network
    for name in context.layout.shapes:
        owner = network.get_submodule(name.rpartition(".")[0])
        assert (name in covered) == isinstance(owner, torch.nn.Linear | torch.nn.Conv2d)
    assert 0 < len(covered) < len(context.layout.shapes)
    everything = torch.cat([row.flatten() for row in network.state_dict().values()])
    assert torch.isin(context.layer_gradients.theta_P, everything).all()


@pytest.mark.usefixtures("grids")
def test_the_final_model_is_that_of_the_best_epoch(tmp_path):
    tiny_bert.write_reviews()
    flags = ("--task", "sst2_reduced", "--model", tiny_bert.save(tmp_path / "tiny"))
    assert stage("train_final", *flags) == 0
    found = xr.load_dataset(paths.predictions("fimo_sst2_reduced_tiny", "0"), engine="h5netcdf")
    right = found["test_output"].isel(train_seed=0).argmax("output").values
    split = sentences.load(bert.tokenizer(flags[3]), 12, 8)
    models = FinalModels("sst2_reduced", flags[3])
    recipe = models.protocol.training
    shares = []
    for epochs in (1, 2, 3):
        network = seeded(lambda: bert.text_classifier(flags[3]), 0)
        shares.append(_accuracy(network, split, replace(recipe, epochs=epochs)))
    labels = split.test.y.numpy()
    assert (right == labels).mean() == max(shares)
    assert int(found["epoch"].squeeze()) == 1 + int(np.argmax(shares))


def _accuracy(network, split, recipe):
    """By tda.further_train's engine, from the same start, order and masks."""
    from bayestda.model.parameters import Parameters
    from bayestda.training.loop import output, train
    from bayestda.training.members import Members, data_order

    theta_1P = Parameters(network).read(network)[None]
    order = data_order(0, len(split.train), recipe.epochs)
    members = Members(theta_1P, order, torch.ones(1, len(split.train)), 0)
    _, theta_CRP = next(train(network, tda.Classification(), split.train, recipe, members))
    found = output(network, tda.Classification(), theta_CRP[0], split.test)[0]
    return (found.argmax(1) == split.test.y).double().mean().item()


def test_shuffled_images_are_those_of_the_files():
    split = subsets.load_shuffled("cifar10", 30, 10)
    images = subsets.read_images(paths.images("cifar10", "train"))
    place = int(np.flatnonzero(images.index == split.train.index[7])[0])
    pixels = torch.tensor(images.pixels[place]).movedim(-1, 0)
    torch.testing.assert_close(split.train.x[7], (pixels.float() / 255 - 0.5) / 0.5)
    assert int(split.train.y[7]) == images.label[place]
    assert (split.train.index[:20] == subsets.load_shuffled("cifar10", 20, 10).train.index).all()
    with pytest.raises(UserError, match="2037 train images of task cifar10, not 3000"):
        subsets.load_shuffled("cifar10", 3000)


def test_all_of_cifar10_is_refused_where_it_is_not_the_recorded_one(root, tmp_path, capsys):
    write_folder(tmp_path / "other", shape=(32, 32, 3), per_class=2)
    assert prepare("--task", "cifar10full", "--source", str(tmp_path / "other")) == 2
    assert "other labels or numbers than recorded" in capsys.readouterr().err
    assert not (root / "data" / "cifar10full").exists()


@pytest.mark.usefixtures("root")
def test_sentences_are_stored_sorted_so_that_numbers_do_not_depend_on_the_source(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sentences, "SIZES", {"train": 24, "validation": 10})
    stored = []
    for name, seed in (("a", 0), ("b", 1)):
        folder = tmp_path / name
        folder.mkdir()
        for split, count in sentences.SIZES.items():
            rows = tiny_bert.reviews(count, 5).sample(frac=1, random_state=seed)
            rows.assign(idx=range(count)).to_parquet(folder / f"{split}.parquet")
        assert prepare("--task", "sst2", "--source", str(folder)) == 0
        stored.append(sentences.read(paths.sentences("train")))
    pd.testing.assert_frame_equal(*stored)
    assert stored[0]["sentence"].is_monotonic_increasing


@pytest.mark.usefixtures("root")
def test_wrong_sentences_are_clear_errors(tmp_path, capsys):
    with pytest.raises(UserError, match="--task sst2 --source hub"):
        sentences.load(lambda _: {})
    tiny_bert.write_reviews(3, 2)
    assert prepare("--task", "sst2", "--source", str(paths.sentences("train").parent)) == 2
    assert "3 train sentences, GLUE's SST-2 has 67349" in capsys.readouterr().err
    with pytest.raises(UserError, match="3 train sentences of sst2, not 5"):
        sentences.load(lambda _: {}, 5)
    file = tmp_path / "bad.parquet"
    for rows in ({"sentence": ["fine"]}, {"sentence": ["fine"], "label": [2]}):
        pd.DataFrame(rows).to_parquet(file)
        with pytest.raises(UserError, match="bad.parquet"):
            sentences.read(file)
    file.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="no sentences and labels"):
        sentences.read(file)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--task", "cifar10"), "data/prepare.py --task cifar10full"),
        (("--task", "energy", "--lora"), "leave out --model and --lora"),
        (("--task", "cifar10_reduced", "--model", "minilm"), "no pretrained model"),
        (("--task", "sst2", "--model", "./nowhere"), "is no folder here"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_one_clear_error(capsys, flags, message):
    assert stage("train_final", *flags) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("root")
def test_an_optimiser_that_a_task_lacks_is_one_clear_error(capsys):
    flags = ("--task", "cifar10_reduced", "--optimizer", "adamw")
    assert stage("further_train", *flags) == 2
    assert "choose one of sgd" in capsys.readouterr().err


def test_names_and_flags_tell_model_and_adapters():
    plain, lora = FinalModels("sst2"), FinalModels("sst2", "minilm", lora=True)
    assert (plain.name, lora.name) == ("fimo_sst2", "fimo_sst2_minilm_lora")
    assert (plain.flags, lora.flags) == ("--task sst2", "--task sst2 --model minilm --lora")
    assert FinalModels("sst2", final_models.BERT).name == "fimo_sst2"
    assert lora.protocol.training.lr == pytest.approx(1e-4)
    assert "lora" in lora.settings() and "lora" not in plain.settings()


def test_memory_of_a_member_is_known_for_token_inputs(tmp_path):
    folder = tiny_bert.save(tmp_path / "tiny")
    network = AsCalled(bert.text_classifier(folder), tda.Classification())
    tokens = bert.tokenizer(folder)
    few, many = (tokens(["the film is fine"] * count) for count in (2, 20))
    recipe = Recipe(epochs=1, keep=1)
    vectors = (5 + 1) * 4 * sum(p.numel() for p in network.parameters())
    sizes = [bytes_per_member(network, recipe, x) - vectors for x in (few, many)]
    assert 0 < 5 * sizes[0] < sizes[1]
