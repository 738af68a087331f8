"""The house keeps its plan: packages import one way, and the library stands without the papers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bayestda as tda

PACKAGE = Path(tda.__file__).parent
FLOORS = (  # bottom up, as docs/extending.md draws them; each imports those before it
    "errors", "files", "model", "training", "gradients", "curvature", "methods", "retraining",
    "scores", "statistics", "distributional", "plots", "page", "experiments",
)  # fmt: skip


def imports_of(path):
    """Modules of the package that a file imports, for type checkers alone ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def packages_of(path):
    parts = [name.split(".") for name in imports_of(path)]
    return {part[1] for part in parts if part[0] == PACKAGE.name and len(part) > 1}


def library():
    return [file for file in PACKAGE.rglob("*.py") if "experiments" not in file.parts]


def test_the_library_does_not_import_the_papers_experiments():
    assert [file for file in library() if "experiments" in packages_of(file)] == []


@pytest.mark.parametrize("floor", FLOORS)
def test_no_package_imports_one_above_it(floor):
    files = [file for file in PACKAGE.rglob("*.py") if file.relative_to(PACKAGE).parts[0] == floor]
    above = set(FLOORS[FLOORS.index(floor) + 1 :])
    upward = {str(file.relative_to(PACKAGE)): packages_of(file) & above for file in files}
    assert {file: names for file, names in upward.items() if names} == {}


def test_every_package_has_a_floor():
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names - {"__init__", "__pycache__"} == set(FLOORS)


def test_few_files_lie_in_the_package_itself():
    assert len(list(PACKAGE.glob("*.py"))) <= 3


def test_packages_are_few_and_so_are_the_imports_between_them():
    arrows = {
        (floor, other)
        for floor in FLOORS
        for file in PACKAGE.rglob("*.py")
        if file.relative_to(PACKAGE).parts[0].removesuffix(".py") == floor
        for other in packages_of(file) & set(FLOORS) - {floor}
    }
    assert len(FLOORS) <= 16
    assert len(arrows) <= 70


def test_grad_dot_of_a_cnn_does_not_load_other_systems():
    code = (
        "import sys, bayestda.experiments.stages.gradients, bayestda.experiments.stages.systems\n"
        "print(*[name.rpartition('.')[2] for name in sys.modules if name.startswith('bayestda.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "gradients" in loaded
    assert not loaded & {"bert", "sentences", "tables", "resnet9", "final_models", "vit", "ekfac"}
