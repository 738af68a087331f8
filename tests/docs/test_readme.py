"""README and the pages for newcomers: code runs, and what they name exists."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from score_files import METHODS as STORED_METHODS
from score_files import write_experiment

import bayestda as tda
from bayestda.experiments import paths
from bayestda.experiments.final_models import PROTOCOLS
from bayestda.experiments.grid import PAPER_GRID, VIT_SMALL_GRID

NAMES = (
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/index.md", "docs/reproduce.md",
    "docs/first_steps.md", "docs/which_estimator.md", "docs/what_the_numbers_mean.md",
    "docs/api.md", "docs/extending.md", "docs/page.md", "docs/library.md", "docs/method.md",
    "docs/reliability.md", "docs/results.md", "docs/results/cnn.md", "docs/results/estimators.md",
    "docs/results/vit.md", "docs/results/distributional.md", "docs/deviations.md", "docs/fimo.md",
    "docs/distributional.md", "docs/cluster.md", "docs/scale.md", "benchmarks/README.md",
    "data/README.md",
)  # fmt: skip
PRESENT = [name for name in NAMES if name != "CHANGELOG.md"]  # which names what is gone
TEXTS = {name: (paths.REPOSITORY / name).read_text() for name in NAMES}
MAKEFILE = (paths.REPOSITORY / "Makefile").read_text()
SNAKEFILE = (paths.REPOSITORY / "Snakefile").read_text()
TARGETS = {
    *re.findall(r"(?m)^rule (\w+):", SNAKEFILE),
    *("paper", "paper_vit", "vit_small"),
    *(f"fimo_{task}" for task in PROTOCOLS),
    *(experiment.name for experiment in (*PAPER_GRID, *VIT_SMALL_GRID)),
}


def found(pattern: str, names: Iterable[str] = PRESENT) -> list[tuple[str, str]]:
    """Pages and what matches on them, each once."""
    return sorted({(name, match) for name in names for match in re.findall(pattern, TEXTS[name])})


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", TEXTS[name], re.DOTALL)


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    names: dict = {
        "build": lambda: torch.nn.Linear(3, 2),
        "train": (x[:8], y[:8]),
        "test": (x[8:], y[8:]),
    }
    (block,) = blocks("README.md")
    exec(block, names)
    assert dict(names["scores"].sizes) == {"seed": 10, "checkpoint": 5, "train": 8, "test": 4}
    assert {"mean", "p", "q", "sign_agreement"} <= set(names["pairs"])
    assert (tmp_path / "scores.png").stat().st_size > 10_000


def test_python_for_stored_scores_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    write_experiment("cnn2_mnist3_10pc", STORED_METHODS)
    names: dict = {}
    (block,) = blocks("docs/reproduce.md")
    exec(block, names)
    assert set(names["pairs"]["p"].dims) == {"train", "test"}


def test_the_readme_is_one_page():
    assert len(TEXTS["README.md"].splitlines()) < 130


@pytest.mark.parametrize(("name", "link"), found(r"\]\(([^)\s]+)\)", NAMES))
def test_links_lead_somewhere(name, link):
    if link.startswith("https://"):
        return
    file, _, heading = link.partition("#")
    target = (paths.REPOSITORY / name).parent / file if file else paths.REPOSITORY / name
    assert target.exists()
    if heading:
        assert heading in headings(target)


def headings(page: Path) -> set[str]:
    """Anchors as repository hosts make them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


SCRIPTS = ("", "tda_cnn_scripts", "tda_vit_scripts", "tda_fimo_scripts", "analysis", "benchmarks",
           "data", "tda_distributional_scripts")  # fmt: skip
NAMING = [name for name in PRESENT if name != "docs/extending.md"]  # whose files are made up


@pytest.mark.parametrize(("name", "script"), found(r"\b((?:\w+/)*\w+\.py)\b", NAMING))
def test_scripts_exist(name, script):  # noqa: ARG001 (says where it is named)
    assert any((paths.REPOSITORY / folder / script).exists() for folder in SCRIPTS)


@pytest.mark.parametrize(
    ("name", "targets"), found(r"(?m)(?:^    |`)make ((?:[a-z_-]+ )*[a-z_-]+)")
)
def test_make_targets_exist(name, targets):  # noqa: ARG001
    rules = set(" ".join(re.findall(r"(?m)^([\w -]+):", MAKEFILE)).split())
    assert set(targets.split()) <= rules


SNAKEMAKE = r"snakemake (?:--cores\s\d |--profile\s\S+ )([a-z][\w]*(?: [a-z]\w*)*)"


@pytest.mark.parametrize(("name", "targets"), found(SNAKEMAKE))
def test_targets_of_snakemake_exist(name, targets):  # noqa: ARG001
    assert set(targets.split()) <= TARGETS


@pytest.mark.parametrize("name", [name for name, own in tda.METHODS.items() if not own.retrains])
def test_every_estimator_is_on_its_page(name):
    (table,) = re.findall(r"\| `method=` .*?\n\n", TEXTS["docs/which_estimator.md"], re.DOTALL)
    assert f"\n| `{name}` |" in table


@pytest.mark.parametrize("name", sorted(set(tda.__all__) - {"__version__", "METHODS"}))
def test_every_public_name_is_in_the_api_reference(name):
    assert f"\n   {name}\n" in TEXTS["docs/api.md"]


@pytest.mark.parametrize(("name", "used"), found(r"\btda\.([A-Za-z_]\w*)"))
def test_names_of_the_package_exist(name, used):  # noqa: ARG001
    assert hasattr(tda, used)
