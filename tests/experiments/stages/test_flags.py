"""What each script takes: no flag without an effect, and help that waits for no import."""

import subprocess
import sys

import pytest
from stage_scripts import run_path, script

from bayestda.experiments import paths
from bayestda.experiments.stages.final_commands import LEAVE_OUT
from bayestda.retraining.data_changes import HOW

FOLDERS = ("tda_cnn_scripts", "tda_vit_scripts", "tda_fimo_scripts", "tda_distributional_scripts")
SCRIPTS = ["train_cnn.py", "finetune_vit_lora.py"] + [
    str(file.relative_to(paths.REPOSITORY))
    for folder in FOLDERS
    for file in sorted((paths.REPOSITORY / folder).glob("*.py"))
]
HEAVY = {"torch", "torchvision", "transformers", "peft", "numpy", "pandas", "xarray", "scipy"}
SPEAKING = f"""
import runpy, sys
for script in sys.argv[1:]:
    name, *flags = script.split()
    sys.argv = [name, *flags]
    try:
        runpy.run_path(name, run_name="__main__")
    except SystemExit as stopped:
        print("answer", name, stopped.code, *sorted({HEAVY!r} & sys.modules.keys()), sep=",")
"""


def answers(*command_lines):
    """Run scripts in one process; of each its name, its status, and the heavy packages so far."""
    command = [sys.executable, "-c", SPEAKING, *command_lines]
    ended = subprocess.run(
        command, cwd=paths.REPOSITORY, capture_output=True, text=True, check=True
    )
    said = [line.partition("answer,")[2] for line in ended.stdout.splitlines()]
    return [line for line in said if line]


def test_help_of_no_script_imports_what_computes():
    assert answers(*(f"{name} --help" for name in SCRIPTS)) == [f"{name},0" for name in SCRIPTS]


@pytest.mark.parametrize(
    "line",
    [
        "tda_cnn_scripts/loo.py --layers 7",
        "tda_cnn_scripts/loo.py --task mnist4",
        "tda_cnn_scripts/loo.py --seed_id 77",
        "tda_cnn_scripts/influence.py --lissa_scale 10",
        "tda_vit_scripts/loo.py --model ./nowhere",
        "tda_fimo_scripts/further_train.py --start scratch --leave_out delete",
        "tda_fimo_scripts/train_final.py --task energy --lora",
        "tda_distributional_scripts/concrete.py --runs 2",
    ],
)
def test_a_wrong_flag_is_refused_before_anything_is_imported(line):
    assert answers(line) == [f"{line.split()[0]},2"]


GRADIENTS = [
    f"{name} {value}" for name, value in (
        ("--damping", ".1"), ("--solver", "lissa"), ("--lissa_damping", ".1"),
        ("--lissa_scale", "10"), ("--lissa_batch", "8"), ("--lissa_steps", "3"), ("--chunk", "4"),
    )
]  # fmt: skip
UNKNOWN = [
    *(("grad_dot", flag) for flag in (*GRADIENTS, "--also influence")),
    *(("grad_cos", flag) for flag in (*GRADIENTS, "--also influence")),
    ("influence", "--chunk 4"),
    ("influence", "--also influence"),
    ("train_cnn", "--chunk 4"),
    ("train_cnn", "--augment random_resized_crop"),
    ("loo", "--optimizer sgd"),
    ("ats", "--loo_ids 0:2"),
]


@pytest.mark.parametrize(("name", "flag"), UNKNOWN)
def test_a_script_has_no_flag_of_another(name, flag, capsys):
    assert run_path(script(name), *flag.split()) == 2
    assert flag.split()[0] in capsys.readouterr().err.splitlines()[-1]


def test_a_vit_whose_dropout_hinders_replays_has_no_ablations(capsys):
    assert run_path(script("estimators", "vit"), "--ablations") == 2
    assert "unrecognized arguments: --ablations" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "flags", "message"),
    [
        *(
            ("tda_cnn_scripts/influence.py", flag, "applies only to --solver lissa")
            for flag in GRADIENTS if flag.startswith("--lissa")
        ),
        ("tda_cnn_scripts/influence.py", "--damping .1 --solver lissa", "only to --solver exact"),
        ("tda_cnn_scripts/estimators.py", "--chunk 4", "only to the models of --subsets"),
        ("tda_fimo_scripts/further_train.py", "--num_seeds 2 --seed_id 0", "without --seed_id"),
        ("tda_fimo_scripts/further_train.py", "--optimizer adam --start scratch", "--start final"),
        ("tda_fimo_scripts/mislabel.py", "--num_trials 2 --train_seed 0", "without --train_seed"),
    ],
)  # fmt: skip
def test_a_flag_without_an_effect_is_refused(path, flags, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    assert run_path(paths.REPOSITORY / path, *flags.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {flags.split()[0]} applies only")
    assert message in line and line.endswith("leave it out")


@pytest.mark.parametrize("path", ["train_final.py", "approximate.py"])
def test_stages_that_train_no_members_together_have_no_chunk(path, capsys):
    assert run_path(paths.REPOSITORY / "tda_fimo_scripts" / path, "--chunk", "4") == 2
    assert "--chunk" in capsys.readouterr().err


def test_ways_of_leaving_out_are_those_of_the_library():
    assert LEAVE_OUT == HOW
