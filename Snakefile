"""The order of work: which stage reads what another one wrote.

    snakemake --cores 2 reproduce               what `make reproduce` does: cnn2_mnist3_10pc
    snakemake --cores 2 reproduce_vit           what `make reproduce_vit` does: vit_small_mnist3_10pc
    snakemake --cores 2 cnn2_mnist3_50pc        one experiment: scores, tables, figures
    snakemake --cores 2 paper                   the paper's grid of CNNs: experiments 1-8, CNN3
    snakemake --cores 2 paper_vit               experiments 9 and 10: downloads a ViT-B/16
    snakemake --cores 2 vit_small               the ViT that comes with the project
    snakemake --cores 2 fimo_concrete fimo_energy     final-model-only attribution
    snakemake --cores 2 fimo_adult_reduced fimo_cifar10_reduced     the same: fewer examples
    snakemake --cores 2 fimo_heloc_reduced fimo_sst2_reduced        of data from data/prepare.py
    snakemake --cores 2 report                  a page to look at: cnn2_mnist3_10pc
    snakemake --cores 2 deviations              what the released code's choices change
    snakemake --cores 2 published               experiment 1 as the paper printed it, 10 minutes
    snakemake --cores 2 ground_truth            which estimator predicts retraining
    snakemake --cores 2 distributional          distributions over runs: six experiments
    snakemake --cores 2 --config experiment=NAME -- NAME     any other experiment

Every stage can also be run by hand; one that finds its results does nothing. Stages keep what is
finished when they are stopped (hence `update`), and use the cores that they are given.

    --config split=1       a job for each run (seed), as GPUs and clusters want it; without it one
                           job does all runs of a stage
    --config split=4       and where a run leaves examples out in turn, 4 jobs share it
    --config gpu=1         a GPU for each job; `--resources gpu=2` on a machine with two

    snakemake --profile profiles/slurm paper    the same on a cluster: docs/cluster.md
"""

import sys

from snakemake.exceptions import WorkflowError

from bayestda.experiments import paths
from bayestda.experiments.grid import METHODS, PAPER_GRID, RANDOMNESS, VARIANTS, VIT_GRID, VIT_SMALL_GRID, Experiment
from bayestda.experiments.published import released
from bayestda.experiments.final_models import TRAIN_SEEDS, FinalModels
from bayestda.experiments.stages.commands import Influence
from bayestda.experiments.jobs import MEMORY_MB, OWN_MB, RUNTIME_MINUTES, StageWork, shares
from bayestda.experiments.data.tables import TABLES as TABLES_OF_ROWS
from bayestda.experiments.figures.catalogue import FIGURES
from bayestda.experiments.outputs import FINAL_TABLES, REDUCED_TABLES, TABLES

SMALL, SMALL_VIT = Experiment("cnn2", "mnist3", 10), Experiment("vit_small", "mnist3", 10)
EXTRA = [Experiment("cnn2", "mnist3", n, kind) for n in (10, 20) for kind in RANDOMNESS
         if kind != "published"]
ASKED = [Experiment.parse(name) for name in str(config.get("experiment", "")).split()]
GRIDS = {"paper": PAPER_GRID, "paper_vit": VIT_GRID, "vit_small": VIT_SMALL_GRID}
EXPERIMENTS = list(dict.fromkeys([*sum(GRIDS.values(), ()), *EXTRA, *ASKED]))
PRINTED = [experiment for experiment in PAPER_GRID
           if experiment.model == "cnn2" and experiment.randomness == "init"]

GROUND_TRUTH = {  # and what is too costly for all of them
    Experiment("cnn2", "mnist3", 10): "--subsets 100 --ablations",
    Experiment("cnn2", "mnist3", 50): "",
    Experiment("cnn2", "cifar10", 10): "",
}

DRAWN = {name: figure for name, figure in FIGURES.items() if not figure.comparing}
COMPARISONS = [name for name, figure in FIGURES.items() if figure.comparing]
DISTRIBUTIONAL = {  # what is read: a table or an experiment's images
    "regression_1d": None,
    "convergence": "concrete",
    "concrete": "concrete",
    "mnist3_spread": SMALL,
    "mnist3_groups": SMALL,
    "cifar10_pruning": Experiment("cnn2", "cifar10", 10),
}
FINAL = [FinalModels(task) for task in ("concrete", "energy")]
REDUCED = [
    FinalModels(f"{task}_reduced") for task in ("adult", "heloc", "cifar10", "sst2")
]
FURTHER = {  # work: variant, own flags, final models, orders of the data
    "sgd": ("sgd", "", TRAIN_SEEDS, [0]),
    "sgd_again": ("sgd", "", TRAIN_SEEDS[:1], [1]),
    "adam": ("adam", "--optimizer adam", TRAIN_SEEDS[:3], [0]),
    "sgd_delete": ("sgd_delete", "--leave_out delete", TRAIN_SEEDS[:1], [0, 1]),
    "scratch": ("scratch", "--start scratch", TRAIN_SEEDS[:1], [0]),
}
FROM_STAGES = [table for table in FINAL_TABLES if table != "damping"]
PYTHON = config.get("python", sys.executable)


def all_cores():
    """Return the number of cores of one machine; a cluster has no such number."""
    try:
        return workflow.cores
    except WorkflowError:
        raise WorkflowError(
            "without split one job does all runs, on all cores of one machine: give --cores, or on "
            "a cluster --config split=2 (--config takes the place of what the profile has there)"
        ) from None


SPLIT = int(config.get("split", 0))  # jobs that a run is shared by; 0: one job does all runs
GPU = int(config.get("gpu", 0))
THREADS = 1 if SPLIT else all_cores()
# A node's free memory is not the job's own; of a GPU, it is.
MEMORY = " --memory_gb {resources.memory_gb}" if SPLIT and not GPU else ""


wildcard_constraints:
    experiment="|".join(experiment.name for experiment in EXPERIMENTS),
    run=r"[^/.]+",
    train_seed=r"\d+",
    seed=r"\d+",
    first=r"\d+",
    last=r"\d+",
    table="|".join(TABLES),
    figure="|".join(DRAWN),
    comparison="|".join(COMPARISONS),


def stage(experiment, name, own=""):
    """Return the command of a stage script, without the path of Python."""
    return " ".join([experiment.script(name), *own.split(), experiment.flags])


def of_runs(experiment, files):
    """Return the files of all runs of an experiment."""
    return [file for run in experiment.runs() for file in files(run.name)]


def predictions(experiment):
    return of_runs(experiment, lambda run: [paths.predictions(experiment.name, run)])


def checkpoints(experiment):
    """Return a function from a run's name to its files, of an experiment or of final models."""
    kept = experiment.recipe.kept_epochs
    return lambda run: [paths.checkpoint(experiment, run, epoch) for epoch in kept]


def scores(experiment, *methods):
    return of_runs(experiment, lambda run: [paths.scores(experiment.name, m, run) for m in methods])


def images(experiment):
    """Return the files of an experiment's data; the stage itself compares the pixels."""
    task, size = experiment.task, experiment.num_per_class
    return [
        paths.SEEDS,
        *(paths.images(task, split) for split in ("train", "test")),
        *(paths.index_list(task, subset) for subset in (size, None)),
    ]


def work_of(experiment, name, makes, script, own="", **more):
    """Return the work of a stage for an experiment's runs."""
    runs = [run.name for run in experiment.runs()]
    return StageWork(
        name=name,
        command=stage(experiment, script, own),
        runs=runs,
        makes=makes,
        chosen=lambda wildcards: f"--seed_id {runs.index(wildcards.run)}",
        **more,
    )


def stages(experiment):
    """Yield the work of all stages of an experiment."""
    name = experiment.name

    def makes(*methods):
        return lambda run: [paths.scores(name, method, run) for method in methods]

    def trained(run):
        return [paths.predictions(name, run), *checkpoints(experiment)(run)]

    of_data = {"needs_always": images(experiment)}
    of_posterior = {"needs": checkpoints(experiment)}
    left_out = {"num_left_out": experiment.num_train}
    yield work_of(experiment, f"train_{name}", trained, "train", **of_data)
    yield work_of(experiment, f"loo_{name}", makes("loo"), "loo", **of_data, **left_out)
    yield work_of(experiment, f"ats_{name}", makes("ats"), "ats", **of_posterior)
    others = Influence.others
    yield work_of(experiment, f"gradients_{name}", makes("influence", *others),
                  "influence", f"--also {' '.join(others)}", **of_posterior)
    if experiment == SMALL:
        for variant, script_and_flag in VARIANTS.items():
            yield work_of(experiment, variant, makes(variant),
                          *script_and_flag.split(maxsplit=1), **of_posterior)
    if experiment in GROUND_TRUTH:
        yield work_of(experiment, f"estimators_{name}",
                      lambda run: [paths.estimators(name, run)],
                      "estimators", GROUND_TRUTH[experiment], **of_posterior)


def released_stages(experiment):
    """Yield the work of an experiment in the released way, which has stages of its own."""
    name, needs = experiment.name, {"needs": checkpoints(experiment)}

    def makes(*methods):
        return lambda run: [paths.scores(name, method, run) for method in methods]

    def trained(run):
        return [paths.predictions(name, run), *checkpoints(experiment)(run)]

    yield work_of(experiment, f"train_{name}", trained, "train", needs_always=images(experiment))
    yield work_of(experiment, f"loo_{name}", makes("loo_published"), "loo", "--variant published",
                  num_left_out=experiment.num_train, **needs)
    yield work_of(experiment, f"ats_{name}", makes("ats"), "ats", **needs)
    yield work_of(experiment, f"gradients_{name}",
                  makes("influence_lissa", "grad_dot", "grad_cos"),
                  "influence", "--solver lissa --also grad_dot grad_cos", **needs)


def final_stages(models):
    """Yield the work of all stages of a task's final models."""

    def of_model(name, script, makes, **more):
        return StageWork(
            name=f"{name}_{models.name}",
            command=f"{models.script(script)} {models.flags}",
            runs=[run.name for run in models.finals()],
            makes=makes,
            chosen=lambda wildcards: f"--train_seed {wildcards.run}",
            **more,
        )

    def trained(run):
        return [paths.predictions(models.name, run), *checkpoints(models)(run)]

    yield of_model("train", "train", trained, needs_always=final_data(models))
    yield of_model("approximate", "approximate", lambda run: [approximated(models, run)],
                   needs=checkpoints(models))
    for kind, (variant, _, _, orders) in kinds(models).items():
        one = orders[0] if len(orders) == 1 else None  # in the pattern: kinds share a variant
        yield StageWork(
            name=f"further_{models.name}_{kind}",
            command=further_command(models, kind),
            runs=[run.name for run in further_runs(models, kind)],
            makes=lambda run, variant=variant: [paths.further(models.name, variant, run)],
            needs=lambda run: checkpoints(models)(run.partition("x")[0]),
            pattern="{train_seed}x{seed}" if one is None else f"{{train_seed}}x{one}",
            chosen=lambda at, one=one: (
                f"--train_seed {at.train_seed} --seed_id {at.seed if one is None else one}"
            ),
            num_left_out=models.protocol.num_left_out,
        )


def final_data(models):
    """Return the files of a task's data."""
    if models.rows in TABLES_OF_ROWS:
        return [paths.rows(models.rows, TABLES_OF_ROWS[models.rows].suffix)]
    if models.pretrained:
        return [paths.sentences(split) for split in ("train", "validation")]
    return [paths.images(models.rows, split) for split in ("train", "test")]


def distributional_data(read):
    """Return the files of a distributional experiment's data."""
    if isinstance(read, Experiment):
        return [file for file in images(read) if file != paths.SEEDS]
    return [paths.rows(read, TABLES_OF_ROWS[read].suffix)] if read else []


def approximated(models, run):
    """Return one of the files that approximations of a final model write."""
    method = "proposition_1" if models in FINAL else "grad_cos"
    return paths.approximation(models.name, method, run)


def kinds(models):
    """Return the kinds of further training of a task."""
    if models in FINAL:
        return FURTHER
    first = models.protocol.optimizer(None)
    return {first: (first, "", models.protocol.train_seeds, [0, 1])}


def further_runs(models, kind):
    _, _, train_seeds, orders = kinds(models)[kind]
    return models.runs(train_seeds, orders)


def final_runs(models, kind):
    """Return the files of one kind of further training."""
    runs = further_runs(models, kind)
    return [paths.further(models.name, kinds(models)[kind][0], run.name) for run in runs]


def further_command(models, kind):
    _, own, train_seeds, orders = kinds(models)[kind]
    chosen = "--train_seed " + " ".join(map(str, train_seeds))
    ordered = f"--seed_id {orders[0]}" if len(orders) == 1 else f"--num_seeds {len(orders)}"
    flags = [models.flags, own, *(() if SPLIT else (chosen, ordered))]
    return " ".join([models.script("further_train"), *filter(None, flags)])


def resources_of(work):
    """Return what a job asks for; it asks for more when it is tried again."""
    return {
        "mem_mb": lambda wildcards, attempt: MEMORY_MB * attempt,
        "memory_gb": lambda wildcards, attempt: (MEMORY_MB * attempt - OWN_MB) // 1000,
        "runtime": lambda wildcards, attempt: RUNTIME_MINUTES * attempt,
        **({"gpu": GPU} if GPU else {}),
    }


def share_files(work, ids):
    """Return the markers of the shares of a run."""
    (scores,) = work.makes(work.pattern) if ids else (None,)
    return [paths.share(scores, first, last) for first, last in ids]


def drawn(experiment):
    """Return the markers of an experiment's figures, whose files have the paper's numbers."""
    return [paths.drawn(experiment.name, figure) for figure in DRAWN]


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


WORK = [
    *(work for experiment in EXPERIMENTS for work in stages(experiment)),
    *(work for experiment in PRINTED for work in released_stages(released(experiment))),
    *(work for models in (*FINAL, *REDUCED) for work in final_stages(models)),
]

# A stage that finds its results does not write them again: touch, so that they are not older than
# what they were made from.
for work in WORK:
    ids = shares(work.num_left_out, SPLIT) if work.num_left_out and SPLIT > 1 else []

    if ids:

        rule:
            name: f"{work.name}_share"
            input:
                work.inputs(per_run=True),
            output:
                temp(touch(share_files(work, [("{first}", "{last}")]))),
            params:
                command=work.command,
                run=work.chosen,
            threads: THREADS
            resources:
                **resources_of(work),
            shell:
                "{PYTHON} {params.command} {params.run} --loo_ids {wildcards.first}:{wildcards.last}"
                " --jobs {threads}" + MEMORY

    rule:
        name: work.name
        input:
            work.inputs(per_run=SPLIT),
            share_files(work, ids),
        output:
            update(work.outputs(per_run=SPLIT)),
        params:
            command=work.command,
            run=work.chosen if SPLIT else "",
        threads: THREADS
        resources:
            **resources_of(work),
        shell:
            "{PYTHON} {params.command} {params.run} --jobs {threads}" + MEMORY + " && touch -c {output:q}"


rule report:
    input:
        paths.results(SMALL.name) / "report.html",


rule deviations:
    input:
        of_runs(SMALL, checkpoints(SMALL)),
        scores(SMALL, *METHODS, *VARIANTS),
    output:
        paths.table(SMALL.name, "deviations"),
    params:
        name=SMALL.name,
    shell:
        "{PYTHON} analysis/deviations.py --experiment {params.name}"


rule published:
    input:
        paths.table(SMALL.name, "published"),


for experiment in PRINTED:

    rule:
        name: f"published_{experiment.name}"
        input:
            predictions(released(experiment)),
            scores(released(experiment), "loo_published", "ats", "influence_lissa", "grad_dot",
                   "grad_cos"),
        output:
            paths.table(experiment.name, "published"),
        params:
            name=experiment.name,
        shell:
            "{PYTHON} analysis/published.py --experiment {params.name}"


rule ground_truth:
    input:
        [paths.table(experiment.name, "ground_truth") for experiment in GROUND_TRUTH],


for experiment in GROUND_TRUTH:

    rule:
        name: f"ground_truth_{experiment.name}"
        input:
            scores(experiment, "loo", "ats"),
            of_runs(experiment, lambda run: [paths.estimators(experiment.name, run)]),
        output:
            paths.table(experiment.name, "ground_truth"),
        params:
            name=experiment.name,
        shell:
            "{PYTHON} analysis/ground_truth.py --experiment {params.name}"


for experiment in EXPERIMENTS:

    rule:
        name: experiment.name
        input:
            paths.results(experiment.name) / "summary.md",

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

    rule:
        name: f"report_{experiment.name}"
        input:
            paths.results(experiment.name) / "summary.md",
        output:
            paths.results(experiment.name) / "report.html",
        params:
            name=experiment.name,
        shell:
            "{PYTHON} analysis/report.py --experiment {params.name}"


rule distributional:
    input:
        [paths.figure(f"distributional_{name}", name) for name in DISTRIBUTIONAL],


for distributional, read in DISTRIBUTIONAL.items():

    rule:
        name: f"distributional_{distributional}_samples"
        input:
            distributional_data(read),
        output:
            update(paths.distributional(distributional)),
        params:
            name=distributional,
        shell:
            "{PYTHON} tda_distributional_scripts/{params.name}.py && touch -c {output:q}"

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
        lambda wildcards: paths.table(wildcards.experiment, DRAWN[wildcards.figure].table),
    output:
        touch(paths.drawn("{experiment}", "{figure}")),
    shell:
        "{PYTHON} analysis/figures.py --figure {wildcards.figure} --experiment {wildcards.experiment}"


for group, members in {"small": [SMALL], "small_vit": [SMALL_VIT], **GRIDS}.items():

    rule:
        name: f"comparisons_{group}"
        input:
            lambda wildcards, members=members: [
                paths.table(experiment.name, FIGURES[wildcards.comparison].table)
                for experiment in members
            ],
        output:
            touch(paths.drawn(None, f"{{comparison}}.{group}")),
        shell:
            "{PYTHON} analysis/figures.py --figure {wildcards.comparison}"


for models in (*FINAL, *REDUCED):

    tables = FROM_STAGES if models in FINAL else REDUCED_TABLES

    for table in tables:

        rule:
            name: f"fimo_{table}_{models.task}"
            input:
                [final_runs(models, kind) for kind in kinds(models)],
                [approximated(models, run.name) for run in models.finals()],
            output:
                paths.table(models.name, table),
            params:
                command=f"analysis/fimo_{table}.py {models.flags}",
            shell:
                "{PYTHON} {params.command}"

    if models in REDUCED:

        rule:
            name: models.name
            input:
                [paths.table(models.name, table) for table in tables],


for models in FINAL:

    rule:
        name: models.name
        input:
            [paths.table(models.name, table) for table in FINAL_TABLES],

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

    rule:
        name: f"report_{models.name}"
        input:
            [paths.table(models.name, table) for table in FINAL_TABLES],
        output:
            paths.results(models.name) / "report.html",
        params:
            name=models.name,
        shell:
            "{PYTHON} analysis/report.py --experiment {params.name}"
