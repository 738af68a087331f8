"""The paper's printed numbers come out of runs in the released way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from score_files import NAME, SIGNAL, call, read, write_experiment, write_predictions
from torch.utils.data import DataLoader

from bayestda import statistics
from bayestda.experiments import networks, paths, published, results, tasks
from bayestda.experiments.grid import Experiment
from bayestda.experiments.networks import builder
from bayestda.experiments.published_order import published_order
from bayestda.experiments.stages.context import Context
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.systems import Cnn
from bayestda.training.loop import output, train

pytestmark = pytest.mark.usefixtures("root")
RELEASED = ("loo_published", "ats", "influence_lissa", "grad_dot", "grad_cos")


def test_the_order_is_that_of_a_shuffling_loader_after_the_network_is_built():
    """One generator, seeded once: the network takes its numbers first."""
    order_EN = published_order(7, 10, 3, 4, builder("cnn2", "mnist3"))[0]
    state = torch.random.get_rng_state()
    torch.manual_seed(7)
    networks.cnn2(tasks.task("mnist3"))
    loader = DataLoader(torch.arange(10), batch_size=4, shuffle=True)
    wanted = [torch.cat(list(loader)) for _ in range(3)]
    torch.random.set_rng_state(state)
    assert order_EN.equal(torch.stack(wanted))
    assert not order_EN.equal(published_order(7, 10, 3, 4)[0])


def test_drawing_the_order_leaves_the_global_generator():
    before = torch.random.get_rng_state()
    published_order(7, 10, 3, 4, builder("cnn2", "mnist3"))
    assert torch.random.get_rng_state().equal(before)


def context_of(experiment, run):
    return Context(Cnn(experiment), run, Options())


def test_training_takes_the_released_order_and_training_on_the_one_without_a_network():
    experiment = Experiment("cnn2", "mnist3", 20, "published")
    run = experiment.runs()[0]
    context, ones_1N = context_of(experiment, run), torch.ones(1, 60)
    wanted = published_order(run.order, 60, 15, 32, builder("cnn2", "mnist3"))
    assert context.full_run().order.equal(wanted)
    continued = context.members(ones_1N, context.layout.read(context.network))
    assert continued.order.equal(published_order(run.order, 60, 15, 32))


def test_experiment_2_has_the_printed_accuracy():
    """Table 3 prints .985 and .970, of ten runs; other orders give other numbers."""
    experiment = Experiment("cnn2", "mnist3", 20, "published")
    found = {"train": [], "test": []}
    for run in experiment.runs():
        context = context_of(experiment, run)
        (_, theta_C1P), *_ = train(
            context.network, context.objective, context.split.train,
            replace(context.recipe, keep=1), context.full_run(),
        )  # fmt: skip
        for name in found:
            data = getattr(context.split, name)
            logit_MK = output(context.network, context.objective, theta_C1P[0], data)[0]
            found[name].append(float((logit_MK.argmax(-1) == data.y).double().mean()))
    told = published.printed()["experiments"]["cnn2_mnist3_20pc"]["accuracy"]
    assert {name: round(np.mean(values), 3) for name, values in found.items()} == told


@pytest.fixture
def planted(root):
    """Planted scores under the names of the released way, and predictions, in a fresh root."""
    assert not root.exists()
    way = f"{NAME}_published"
    write_experiment(way, dict.fromkeys(RELEASED, SIGNAL))
    write_predictions(way, [1, 2, 3, 2])
    return way


def test_the_table_holds_each_printed_number_beside_the_one_made_here(planted, monkeypatch, capsys):
    call(monkeypatch, "published", "--experiment", NAME)
    table = read("published")
    assert table["quantity"].value_counts().to_dict() == {
        "mean p": 5, "mean p of LOO": 5, "accuracy": 2,
        **{f"{kind} correlation of {what}": 10 for kind in ("pearson", "spearman")
           for what in ("mean", "std", "signal_to_noise")},
    }  # fmt: skip
    by_method = table[table["quantity"] == "mean p"].set_index("of")
    assert by_method["printed"].tolist() == [0.058, 0.088, 0.111, 0.110, 0.020]
    scores = results.read_scores(Experiment.parse(planted), "influence_lissa")["score"]
    wanted = float(statistics.published_p(statistics.run_means(scores)).mean())
    assert by_method.loc["influence", "released"] == pytest.approx(wanted, abs=1e-6)
    assert "mean p: 0 of 10 as printed" in capsys.readouterr().out
    assert paths.figure(NAME, "published").exists()


@pytest.mark.usefixtures("planted")
def test_ats_and_influence_have_the_papers_sign():
    """All five are planted as helpful with one signal: two of them are turned."""
    table = published.comparison(Experiment.parse(NAME))
    of_means = table[table["quantity"] == "pearson correlation of mean"].set_index("of")["released"]
    assert of_means["loo, ats"] < -0.9
    assert of_means["loo, grad_dot"] > 0.9
    assert of_means["ats, influence"] > 0.9


@pytest.mark.usefixtures("planted")
def test_same_means_equal_to_the_printed_digits(monkeypatch):
    told = published.printed()
    exact = published.comparison(Experiment.parse(NAME)).set_index(["quantity", "of"])["released"]
    wrong = exact["mean p", "loo"]
    one = told["experiments"][NAME]
    near = {"loo": round(wrong, 3), "ats": round(wrong, 3) + 0.001}
    changed = {**one, "mean_p": {**one["mean_p"], **near}}
    monkeypatch.setattr(published, "printed", lambda: {**told, "experiments": {NAME: changed}})
    table = published.comparison(Experiment.parse(NAME)).set_index(["quantity", "of"])
    assert table.loc[("mean p", "loo"), "same"]
    assert not table.loc[("mean p", "influence"), "same"]


def test_experiments_whose_runs_are_not_known_are_refused(monkeypatch, capsys):
    for name, message in (
        ("cnn2_mnist3_50pc_batch", "share an initialisation"),
        ("cnn3_mnist3_50pc", "the paper has no numbers of cnn3_mnist3_50pc"),
        (NAME, "run `python tda_cnn_scripts/loo.py --variant published"),
    ):
        with pytest.raises(SystemExit):
            call(monkeypatch, "published", "--experiment", name)
        assert message in capsys.readouterr().err
