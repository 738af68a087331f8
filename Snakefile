"""The order of work: which stage reads what another one wrote.

    snakemake --cores 2 reproduce               what `make reproduce` does: cnn2_mnist3_10pc
    snakemake --cores 2 reproduce_vit           what `make reproduce_vit` does: vit_small_mnist3_10pc
    snakemake --cores 2 cnn2_mnist3_50pc        one experiment: scores, tables, figures
    snakemake --cores 2 paper                   the paper's grid of CNNs: experiments 1-8, CNN3
    snakemake --cores 2 paper_vit               experiments 9 and 10: downloads a ViT-B/16
    snakemake --cores 2 vit_small               the ViT that comes with the project
    snakemake --cores 2 fimo_concrete fimo_energy     final-model-only attribution
    snakemake --cores 2 deviations              what the released code's choices change
    snakemake --cores 2 ground_truth            which estimator predicts retraining
    snakemake --cores 2 distributional          distributions over runs: six experiments
    snakemake --cores 2 --config experiment=NAME -- NAME     any other experiment

Every stage can also be run by hand; one that finds its results does nothing. Stages keep what is
finished when they are stopped (hence `update`), and use the cores that they are given.
"""

import sys

from tda import paths
from tda.experiments import (
    METHODS,
    PAPER_GRID,
    RANDOMNESS,
    VARIANTS,
    VIT_GRID,
    VIT_SMALL_GRID,
    Experiment,
)
from tda.final_model import TRAIN_SEEDS, FinalModels
from tda.tabular import TABLES as TABLES_OF_ROWS

SMALL, SMALL_VIT = Experiment("cnn2", "mnist3", 10), Experiment("vit_small", "mnist3", 10)
EXTRA = [Experiment("cnn2", "mnist3", n, kind) for n in (10, 20) for kind in RANDOMNESS]
ASKED = [Experiment.parse(name) for name in str(config.get("experiment", "")).split()]
GRIDS = {"paper": PAPER_GRID, "paper_vit": VIT_GRID, "vit_small": VIT_SMALL_GRID}
EXPERIMENTS = list(dict.fromkeys([*sum(GRIDS.values(), ()), *EXTRA, *ASKED]))

GROUND_TRUTH = {  # and what is too costly for all of them
    Experiment("cnn2", "mnist3", 10): "--subsets 100 --ablations",
    Experiment("cnn2", "mnist3", 50): "",
    Experiment("cnn2", "cifar10", 10): "",
}

TABLES = ("p_values", "variance", "reliability", "correlations", "accuracy", "damping")
FIGURES = {  # script: the table that it draws
    "figure_05_08_17_correlations": "correlations",
    "figure_variance": "variance",
    "figure_reliability": "reliability",
    "figure_score_distributions": "p_values",
    "gallery": "p_values",
}
COMPARISONS = (  # figures of all experiments that exist
    "figure_03_07_p_value_histograms",
    "figure_04_p_value_by_size",
    "figure_06_p_value_by_checkpoints",
)
DISTRIBUTIONAL = ("regression_1d", "convergence", "concrete", "mnist3_spread", "mnist3_groups",
                  "cifar10_pruning")
FINAL = [FinalModels(task) for task in ("concrete", "energy")]
FURTHER = {  # rule: variant, own flags, final models, orders of the data
    "sgd": ("sgd", "", TRAIN_SEEDS, [0]),
    "sgd_again": ("sgd", "", TRAIN_SEEDS[:1], [1]),
    "adam": ("adam", "--optimizer adam", TRAIN_SEEDS[:3], [0]),
    "sgd_delete": ("sgd_delete", "--leave_out delete", TRAIN_SEEDS[:1], [0, 1]),
    "scratch": ("scratch", "--start scratch", TRAIN_SEEDS[:1], [0]),
}
FINAL_TABLES = {"fimo_agreement": "agreement", "fimo_gold": "gold", "fimo_seeds": "seeds",
                "fimo_examples": "examples", "fimo_scratch": "scratch",
                "fimo_ranking": "ranking"}  # fmt: skip
PYTHON = config.get("python", sys.executable)


wildcard_constraints:
    experiment="|".join(experiment.name for experiment in EXPERIMENTS),
    table="|".join(TABLES),
    figure="|".join(FIGURES),


def stage(experiment, name, own=""):
    """The command of a stage script, without the path of Python."""
    return " ".join([experiment.script(name), *own.split(), experiment.flags])


def predictions(experiment):
    return [paths.predictions(experiment.name, run.name) for run in experiment.runs()]


def checkpoints(experiment):
    return [
        paths.checkpoint(experiment, run.name, epoch)
        for run in experiment.runs()
        for epoch in experiment.recipe.kept_epochs
    ]


def scores(experiment, *methods):
    return [paths.scores(experiment.name, m, run.name) for m in methods for run in experiment.runs()]


def images(experiment):
    """What the data of an experiment are read from; the stage itself compares the pixels."""
    task, size = experiment.task, experiment.num_per_class
    return [
        paths.SEEDS,
        *(paths.images(task, split) for split in ("train", "test")),
        *(paths.index_list(task, subset) for subset in (size, None)),
    ]


def final_runs(models, rule):
    """Files of one rule of further training."""
    variant, _, train_seeds, orders = FURTHER[rule]
    runs = models.runs(train_seeds, orders)
    return [paths.further(models.name, variant, run.name) for run in runs]


def final_checkpoints(models):
    epoch = models.recipe.kept_epochs[-1]
    return [paths.checkpoint(models, run.name, epoch) for run in models.finals()]


def further_command(models, rule):
    _, own, train_seeds, orders = FURTHER[rule]
    chosen = "--train_seed " + " ".join(map(str, train_seeds))
    ordered = f"--seed_id {orders[0]}" if len(orders) == 1 else f"--num_seeds {len(orders)}"
    return " ".join([models.script("further_train"), models.flags, own, chosen, ordered])


def drawn(experiment):
    """Markers of an experiment's figures; their names follow the paper's numbers."""
    return [paths.drawn(experiment.name, figure) for figure in FIGURES]


rule reproduce:
    default_target: True
    input:
        paths.results(SMALL.name) / "summary.md",
        [paths.drawn(None, f"{figure}.small") for figure in COMPARISONS],


rule reproduce_vit:
    input:
        paths.results(SMALL_VIT.name) / "summary.md",
        [paths.drawn(None, f"{figure}.small_vit") for figure in COMPARISONS],


for grid, experiments in GRIDS.items():

    rule:
        name: grid
        input:
            [paths.results(experiment.name) / "summary.md" for experiment in experiments],
            [paths.drawn(None, f"{figure}.{grid}") for figure in COMPARISONS],


rule deviations:
    input:
        checkpoints(SMALL),
        scores(SMALL, *METHODS, *VARIANTS),
    output:
        paths.table(SMALL.name, "deviations"),
    params:
        name=SMALL.name,
    shell:
        "{PYTHON} analysis/deviations.py --experiment {params.name}"


rule ground_truth:
    input:
        [paths.table(experiment.name, "ground_truth") for experiment in GROUND_TRUTH],


for experiment, own in GROUND_TRUTH.items():

    rule:
        name: f"estimators_{experiment.name}"
        input:
            checkpoints(experiment),
        output:
            update(
                [paths.estimators(experiment.name, run.name) for run in experiment.runs()]
            ),
        params:
            command=stage(experiment, "estimators", own),
        threads: workflow.cores
        shell:
            "{PYTHON} {params.command} --jobs {threads}"

    rule:
        name: f"ground_truth_{experiment.name}"
        input:
            scores(experiment, "loo", "ats"),
            [paths.estimators(experiment.name, run.name) for run in experiment.runs()],
        output:
            paths.table(experiment.name, "ground_truth"),
        params:
            name=experiment.name,
        shell:
            "{PYTHON} analysis/ground_truth.py --experiment {params.name}"


for variant, script_and_flag in VARIANTS.items():

    rule:
        name: variant
        input:
            checkpoints(SMALL),
        output:
            update(scores(SMALL, variant)),
        params:
            command=stage(SMALL, *script_and_flag.split(maxsplit=1)),
        threads: workflow.cores
        shell:
            "{PYTHON} {params.command} --jobs {threads}"


for experiment in EXPERIMENTS:

    rule:
        name: experiment.name
        input:
            paths.results(experiment.name) / "summary.md",

    rule:
        name: f"train_{experiment.name}"
        input:
            images(experiment),
        output:
            update(predictions(experiment)),
            update(checkpoints(experiment)),
        params:
            command=stage(experiment, "train"),
        threads: workflow.cores
        shell:
            "{PYTHON} {params.command} --jobs {threads}"

    rule:
        name: f"loo_{experiment.name}"
        input:
            images(experiment),
        output:
            update(scores(experiment, "loo")),
        params:
            command=stage(experiment, "loo"),
        threads: workflow.cores
        shell:
            "{PYTHON} {params.command} --jobs {threads}"

    rule:
        name: f"ats_{experiment.name}"
        input:
            checkpoints(experiment),
        output:
            update(scores(experiment, "ats")),
        params:
            command=stage(experiment, "ats"),
        threads: workflow.cores
        shell:
            "{PYTHON} {params.command} --jobs {threads}"

    rule:
        name: f"gradients_{experiment.name}"
        input:
            checkpoints(experiment),
        output:
            update(scores(experiment, "influence", "grad_dot", "grad_cos")),
        params:
            command=stage(experiment, "influence", "--also grad_dot grad_cos"),
        threads: workflow.cores
        shell:
            "{PYTHON} {params.command} --jobs {threads}"

    rule:
        name: f"tables_{experiment.name}"
        input:
            predictions(experiment),
            scores(experiment, *METHODS),
        output:
            paths.table(experiment.name, "{table}"),
        params:
            name=experiment.name,
        shell:
            "{PYTHON} analysis/{wildcards.table}.py --experiment {params.name}"

    rule:
        name: f"summary_{experiment.name}"
        input:
            [paths.table(experiment.name, table) for table in TABLES],
            drawn(experiment),
        output:
            paths.results(experiment.name) / "summary.md",
        params:
            name=experiment.name,
        shell:
            "{PYTHON} analysis/summary.py --experiment {params.name}"


rule distributional:
    input:
        [paths.figure(f"distributional_{name}", name) for name in DISTRIBUTIONAL],


for distributional in DISTRIBUTIONAL:

    rule:
        name: f"distributional_{distributional}_samples"
        output:
            update(paths.distributional(distributional)),
        params:
            name=distributional,
        shell:
            "{PYTHON} tda_distributional_scripts/{params.name}.py"

    rule:
        name: f"distributional_{distributional}"
        input:
            paths.distributional(distributional),
        output:
            paths.figure(f"distributional_{distributional}", distributional),
        params:
            name=distributional,
        shell:
            "{PYTHON} analysis/distributional_{params.name}.py"


rule figure:
    input:
        lambda wildcards: paths.table(wildcards.experiment, FIGURES[wildcards.figure]),
    output:
        touch(paths.drawn("{experiment}", "{figure}")),
    shell:
        "{PYTHON} analysis/{wildcards.figure}.py --experiment {wildcards.experiment}"


for group, members in {"small": [SMALL], "small_vit": [SMALL_VIT], **GRIDS}.items():

    rule:
        name: f"comparisons_{group}"
        input:
            [paths.table(experiment.name, "p_values") for experiment in members],
        output:
            touch(paths.drawn(None, f"{{comparison}}.{group}")),
        shell:
            "{PYTHON} analysis/{wildcards.comparison}.py"


for models in FINAL:

    rule:
        name: models.name
        input:
            [paths.table(models.name, table) for table in (*FINAL_TABLES.values(), "damping")],

    rule:
        name: f"train_{models.name}"
        input:
            paths.rows(models.task, TABLES_OF_ROWS[models.task].suffix),
        output:
            update([paths.predictions(models.name, run.name) for run in models.finals()]),
            update(final_checkpoints(models)),
        params:
            command=f"{models.script('train')} {models.flags}",
        threads: workflow.cores
        shell:
            "{PYTHON} {params.command} --jobs {threads}"

    rule:
        name: f"approximate_{models.name}"
        input:
            final_checkpoints(models),
        output:
            update([paths.approximation(models.name, "proposition_1", run.name)
                    for run in models.finals()]),
        params:
            command=f"{models.script('approximate')} {models.flags}",
        threads: workflow.cores
        shell:
            "{PYTHON} {params.command} --jobs {threads}"

    for kind in FURTHER:

        rule:
            name: f"further_{models.name}_{kind}"
            input:
                final_checkpoints(models),
            output:
                update(final_runs(models, kind)),
            params:
                command=further_command(models, kind),
            threads: workflow.cores
            shell:
                "{PYTHON} {params.command} --jobs {threads}"

    for script, table in FINAL_TABLES.items():

        rule:
            name: f"{script}_{models.task}"
            input:
                [final_runs(models, kind) for kind in FURTHER],
                [paths.approximation(models.name, "proposition_1", run.name)
                 for run in models.finals()],
            output:
                paths.table(models.name, table),
            params:
                command=f"analysis/{script}.py {models.flags}",
            shell:
                "{PYTHON} {params.command}"

    rule:
        name: f"fimo_damping_{models.task}"
        input:
            paths.table(models.name, "agreement"),
        output:
            paths.table(models.name, "damping"),
        params:
            command=f"analysis/fimo_damping.py {models.flags}",
        shell:
            "{PYTHON} {params.command}"
