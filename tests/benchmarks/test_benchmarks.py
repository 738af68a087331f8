"""The published algorithm computes what ours computes; tables multiply and add up as they say."""

import argparse
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small_networks import examples, tiny_cnn

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.grid import Experiment
from bayestda.experiments.stages.context import Context
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.systems import Cnn
from bayestda.experiments.terminal import guarded
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.grad_cos import grad_cos
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.lissa import PUBLISHED, lissa_influence
from bayestda.model.examples import Data
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters
from bayestda.retraining.additional_step import additional_training_step, step_recipe
from bayestda.retraining.leave_one_out import removals, retrained_losses
from bayestda.training.loop import losses, train
from bayestda.training.members import Members
from bayestda.training.recipe import Recipe

sys.path.insert(0, str(paths.REPOSITORY / "benchmarks"))
import cnn_stages
import flops
import many_runs
import ours
import published
import report
import scale
import vit_gpu
import vit_gradients

N, M, SEED = 20, 6, 11
RECIPE = Recipe(epochs=3, batch_size=8, lr=0.01, weight_decay=0.1, keep=2)


@pytest.fixture(autouse=True)
def global_generator_untouched():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def case():
    """A checkpoint of a tiny network in float64, with batches that do not hold all examples."""
    torch.manual_seed(3)
    data, test = (examples("tiny_cnn", count, seed=count) for count in (N, M))
    return Case(tiny_cnn().double(), data, test, RECIPE)


def real_case(dtype):
    """CNN2 after two epochs on some MNIST3 images."""
    experiment = Experiment("cnn2", "mnist3", 10)
    context = Context(Cnn(experiment), experiment.runs()[0], Options(jobs=1))
    data, test = (
        Data(x=some.x[:9].to(dtype), y=some.y[:9], index=some.index[:9])
        for some in (context.split.train, context.split.test)
    )
    network, recipe = context.network.to(dtype), replace(context.recipe, epochs=2)
    published.train(network, published.shuffled(published.dataset(data), recipe, SEED), recipe)
    return Case(network, data, test, recipe)


class Case:
    """The same problem for both sides."""

    def __init__(self, network, data, test, recipe):
        self.network, self.data, self.test, self.recipe = network, data, test, recipe
        self.theta = Parameters(network).read(network)
        self.checkpoint = published.Checkpoint(
            network, published.dataset(data), published.dataset(test), recipe, SEED
        )
        self.gradients = SampleGradients(
            network, Classification(), self.theta, train=data, test=test, memory_bytes=1e9
        )

    def members(self, weight):
        """Members that see the data in the order of the published loader."""
        batches = published.shuffled(self.checkpoint.train, self.recipe, SEED)
        epochs = [torch.cat([at for _, _, at in batches]) for _ in range(self.recipe.epochs)]
        return Members(self.theta[None], torch.stack(epochs)[None], weight)

    def additional_training_step(self):
        return -additional_training_step(
            self.network, Classification(), self.theta, step_recipe(self.recipe, "adam"),
            examples=self.data, test=self.test,
        )  # fmt: skip


def test_published_training_is_our_base_run(case):
    members = case.members(torch.ones(1, N).double())
    ((_, mine),) = train(case.network, Classification(), case.data, RECIPE, members)
    batches = published.shuffled(case.checkpoint.train, RECIPE, SEED)
    kept = published.train(case.network, batches, RECIPE)
    theirs = torch.stack([Parameters(case.network).join(state) for state in kept])
    torch.testing.assert_close(theirs, mine[:, 0], rtol=1e-9, atol=1e-11)


def test_published_leave_one_out_is_ours_continued_from_the_checkpoint(case):
    members = case.members(removals(N, range(N + 1)).double())
    loss = retrained_losses(
        case.network, Classification(), replace(RECIPE, keep=1), members,
        train_data=case.data, test_data=case.test,
    )[0]  # fmt: skip
    base = losses(case.network, Classification(), case.theta[None], case.test)
    theirs = published.leave_one_out(case.checkpoint, range(N))
    torch.testing.assert_close(theirs, loss[1:] - base, rtol=1e-8, atol=1e-10)


def test_published_additional_step_is_ours(case):
    theirs = published.additional_training_step(case.checkpoint, range(N))
    torch.testing.assert_close(theirs, case.additional_training_step(), rtol=1e-8, atol=1e-10)


def test_published_gradient_scores_are_ours(case):
    theirs = published.gradient_scores(case.checkpoint, range(M))
    own = {"grad_dot": grad_dot(case.gradients), "grad_cos": grad_cos(case.gradients)}
    torch.testing.assert_close(theirs, own, rtol=1e-9, atol=1e-11)


def test_published_influence_is_our_lissa_batch_by_batch(case):
    theirs = published.influence(case.checkpoint, range(M))
    own = -lissa_influence(case.gradients, PUBLISHED)
    # As strict as this because the Hessian is divided by 1e4: without it little would change.
    torch.testing.assert_close(theirs, own, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_both_sides_agree_on_real_images_to_rounding(dtype, rounding):
    case = real_case(dtype)
    theirs = published.gradient_scores(case.checkpoint, range(9))
    theirs["ats"] = published.additional_training_step(case.checkpoint, range(9))
    theirs["influence_lissa"] = published.influence(case.checkpoint, range(9))
    own = {
        "grad_dot": grad_dot(case.gradients),
        "grad_cos": grad_cos(case.gradients),
        "ats": case.additional_training_step(),
        "influence_lissa": -lissa_influence(case.gradients, PUBLISHED),
    }
    for method, scores in own.items():
        error = (theirs[method].double() - scores.double()).abs().max() / scores.abs().max()
        assert error < rounding, method


def test_a_slice_of_the_published_scores_are_those_of_the_named_examples(case):
    checkpoint = case.checkpoint
    for scores, slices in (
        (published.leave_one_out, "rows"),
        (published.additional_training_step, "rows"),
        (published.influence, "columns"),
    ):
        some, every = scores(checkpoint, range(1, 3)), scores(checkpoint, range(4))
        torch.testing.assert_close(some, every[1:3] if slices == "rows" else every[:, 1:3])


def test_the_published_side_leaves_the_checkpoint_as_it_is(case):
    for scores in (published.leave_one_out, published.additional_training_step,
                   published.influence, published.gradient_scores):  # fmt: skip
        scores(case.checkpoint, range(2))
    assert Parameters(case.network).read(case.network).equal(case.theta)


def test_the_comparison_measures_the_share_of_the_work_that_it_multiplies_out():
    table = cnn_stages.compare(tiny_contexts(), {"train": 2, "test": 3}).set_index("stage")
    num_models = 2 * 5  # seeds x checkpoints
    for stage, share in {
        "train": 1 / 2,
        "LOO": 2 / 4 / num_models,
        "ATS": 2 / 4 / num_models,
        "influence (ours: exact)": 3 / 6 / num_models,
        "influence (ours: LiSSA)": 3 / 6 / num_models,
        "Grad-Dot + Grad-Cos": 3 / 6 / num_models,
    }.items():
        assert table.loc[stage, "measured_share"] == pytest.approx(share), stage
    np.testing.assert_allclose(table["ratio"], table["published_s"] / table["ours_s"])


def test_our_side_of_the_comparison_scores_every_pair():
    context = tiny_contexts()[0]
    theta_CP = ours.train_run(context)
    assert ours.leave_one_out(context, theta_CP).shape == (5, 4, 6)
    assert torch.stack(ours.additional_steps(context, theta_CP)).shape == (5, 4, 6)
    assert torch.stack(ours.influence_lissa(context, theta_CP)).shape == (5, 4, 6)
    exact = torch.stack(ours.influence_exact(context, theta_CP))
    assert exact.shape == (5, len(ours.DAMPINGS), 4, 6)
    assert [len(both) for both in ours.gradient_scores(context, theta_CP)] == [2] * 5


def test_the_whole_is_the_sum_of_stages_with_influence_once():
    rows = [
        cnn_stages._row("train", 1.0, 2.0, 0.5),
        cnn_stages._row("influence (ours: exact)", 2.0, 3.0, 0.1),
        cnn_stages._row("influence (ours: LiSSA)", 9.0, 3.0, 0.1),
    ]
    whole = cnn_stages.with_whole(rows).iloc[-1]
    assert whole["ours_s"] == pytest.approx(3.0)
    assert whole["published_s"] == pytest.approx(34.0)
    assert whole["measured_share"] == pytest.approx(5.0 / 34.0)
    assert whole["ratio"] == pytest.approx(34.0 / 3.0)


def test_counted_arithmetic_is_that_of_the_layers():
    context = tiny_contexts()[0]
    training, evaluation, *_ = flops.stages(context, 1)
    conv_1, conv_2, linear = 2 * 26**2 * 32 * 9, 2 * 11**2 * 64 * 288, 2 * (1600 * 128 + 128 * 10)
    forward = conv_1 + conv_2 + linear
    backward = conv_1 + 2 * conv_2 + 2 * linear  # nobody needs the gradient in the image
    evaluation.run()  # a network is looked at once, by a pass of one example
    assert flops.flop(evaluation) == 6 * forward
    assert flops.flop(training) == 5 * 4 * (forward + backward)


def test_stacked_members_are_as_many_as_asked_for():
    works = {work.name: work for work in flops.stages(tiny_contexts()[0], 7)}
    assert works["train"].members == works["evaluate"].members == 7
    works["train"].run()
    works["evaluate"].run()


def test_a_wrong_count_is_an_error_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cnn_stages.py", "--seeds", "11"])
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    with pytest.raises(SystemExit) as stopped:
        guarded(cnn_stages._main)
    assert stopped.value.code == 2
    assert "--seeds 11 is too many" in capsys.readouterr().err


def test_a_table_is_published_as_markdown_and_csv(tmp_path, capsys):
    table = pd.DataFrame({"stage": ["LOO"], "ours_s": [0.12345], "published_s": [1234.5]})
    report.publish(table, ["A note."], tmp_path / "new" / "run.1")
    printed = capsys.readouterr().out
    text = "| stage | ours_s | published_s |\n| --- | --- | --- |\n| LOO | 0.123 | 1,234 |\n"
    assert (tmp_path / "new" / "run.1.md").read_text() == f"{text}\nA note.\n"
    assert printed.startswith(text)
    assert (tmp_path / "new" / "run.1.csv").read_text().splitlines()[1] == "LOO,0.12345,1234.5"


@pytest.fixture(scope="module")
def few_images():
    """vit_small and 5 images."""
    case = vit_gradients.load("mnist3", 10, seed=1)
    images = case.pixels_NCHW[:5], case.y_N[:5]
    return vit_gradients.case_of(case.network, *images)


def test_all_ways_to_per_example_gradients_agree_and_none_is_zero(few_images):
    assert max(vit_gradients.differences(few_images).values()) < 1e-12
    layout = Parameters(few_images.network)
    for name, gradient in layout.split(vit_gradients.usual(few_images)).items():
        assert gradient.flatten(1).norm(dim=1).min() > 1e-6, name


def test_a_way_that_computes_something_else_is_an_error(few_images, monkeypatch):
    def off(case):
        return vit_gradients.by_vmap(case) + 1e-8

    monkeypatch.setitem(vit_gradients.WAYS, "vmap(grad)", off)
    with pytest.raises(UserError, match=r"differ from the usual code's \(vmap\(grad\)\)"):
        vit_gradients.differences(few_images)


def test_the_gpu_benchmark_runs_small_and_without_the_packages_of_the_files(tmp_path):
    missing = '("xarray", "h5netcdf", "datasets")'
    script = paths.REPOSITORY / "benchmarks" / "vit_gpu.py"
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({missing})); "
        f"sys.path[:0] = [{str(script.parent)!r}, {str(paths.REPOSITORY)!r}]; "
        f"sys.argv = ['vit_gpu.py', '--small', '--device', 'cpu', '--steps', '2']; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for row in ("| training | float32 | 2 |", "| Jacobians | float32 |", "cifar10_50pc_batch |"):
        assert row in run.stdout
    assert not list(tmp_path.iterdir())


def test_the_estimate_counts_every_retraining_step_and_evaluation():
    speeds = {vit_gpu.TRAINING: 100.0, vit_gpu.EVALUATION: 50.0, vit_gpu.SINGLE_STEP: 10.0}
    rows = [
        {"work": work, "precision": "float32", "images/s": speed * factor}
        for work, speed in speeds.items()
        for factor in (0.5, 1.0)
    ]
    scale = vit_gpu.Scale("name", 4, 10, replace(RECIPE, epochs=25, keep=5), num_seeds=3600)
    row = vit_gpu.hours(scale, pd.DataFrame(rows), "float32", checkpoint_s=2.0)
    run, evaluation = 25 * 4 / 100, 5 * 10 / 50
    parts = [run + evaluation, 5 * (run + evaluation), 4 * 5 / 10 + 5 * evaluation, 5 * 2.0]
    assert [row[name] for name in ("train", "LOO", "ATS", "gradient methods")] == parts
    assert row["GPU hours"] == sum(parts)


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_growth_is_measured_in_processes_of_their_own(tmp_path):
    script = paths.REPOSITORY / "benchmarks" / "scale.py"
    command = [
        sys.executable, script, "--systems", "mlp", "--methods", "grad_dot", "--threads", "1",
        "--num_train", "100", "200", "--scratch", tmp_path, "--output", tmp_path / "table",
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["N"].tolist() == [100, 200]
    assert (table["gradients"] < 1.01).all() and (table["gradients"] >= 1).all()
    assert (table["scores_gb"] >= 4e-9 * table["N"] * 1000).all()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["table.csv", "table.md"]


def test_the_slope_of_work_that_grows_as_a_power_is_that_power():
    sizes = [1, 2, 4]
    rows = [
        {"system": "mlp", "method": method, "N": size, "cpu_s": 3.0 * size**power}
        for method, power in (("a", 1), ("b", 2))
        for size in sizes
    ]
    assert scale.slopes(pd.DataFrame(rows))["slope"].tolist() == pytest.approx([1] * 3 + [2] * 3)


def tiny_contexts():
    """Two runs of CNN2 on 4 training and 6 test images, 5 epochs."""
    experiment, contexts = Experiment("cnn2", "mnist3", 10), []
    for run in experiment.runs()[:2]:
        context = Context(Cnn(experiment), run, Options(jobs=1))
        split = context.split
        few = {"train": split.train.take(slice(4)), "test": split.test.take(slice(6))}
        context.split = replace(split, **few)
        context.recipe = replace(context.recipe, epochs=5)
        contexts.append(context)
    return contexts


def few_runs():
    threads = torch.get_num_threads()
    return argparse.Namespace(runs=3, threads=threads, loop_threads=threads)


def test_stacked_runs_are_the_loop_with_data_loaders():
    table = many_runs.measure((5,), few_runs())
    assert (table["difference"] < 1e-4).all()
    ways = ["one after the other", *[f"stacked by {chunk}" for chunk in many_runs.CHUNKS]]
    assert table["way"].tolist() == ways
    assert (table["parameters"] == 51).all()


def test_a_benchmark_of_unlike_runs_is_refused(monkeypatch):
    other = lambda build, data, seeds: [many_runs._run(build, data, s + 1) for s in seeds]  # noqa: E731
    shifted = lambda build, data, seeds: other(build, many_runs.TensorDataset(*data), seeds)  # noqa: E731
    monkeypatch.setattr(many_runs, "one_by_one", shifted)
    with pytest.raises(UserError, match="stacked runs differ from single ones"):
        many_runs.measure((5,), few_runs())
