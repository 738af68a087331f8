"""README: its Python runs, its commands and links exist."""

import re

import pytest
import torch
from safetensors.torch import save_file
from score_files import METHODS, write_experiment

import bayestda as tda
from bayestda.experiments import paths

README = (paths.REPOSITORY / "README.md").read_text()


LIBRARY, STORED = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_its_python_for_stored_scores_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    write_experiment("cnn2_mnist3_10pc", METHODS)
    names: dict = {}
    exec(STORED, names)
    assert set(names["pairs"]["p"].dims) == {"train", "test"}


def test_its_python_for_your_own_model_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for epoch in (19, 20):
        save_file(torch.nn.Linear(3, 2).state_dict(), f"epoch{epoch}.safetensors")
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    names: dict = {
        "build": lambda: torch.nn.Linear(3, 2),
        "recipe": tda.Recipe(epochs=2, keep=1),
        "train": (x[:8], y[:8]),
        "test": (x[8:], y[8:]),
    }
    exec(LIBRARY, names)
    assert dict(names["loo"].sizes) == {"seed": 10, "checkpoint": 1, "train": 8, "test": 4}
    assert set(names["pairs"]["q"].dims) == {"train", "test"}
    assert dict(names["scores"].sizes) == {"seed": 1, "checkpoint": 2, "train": 8, "test": 4}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert link.startswith("https://") or (paths.REPOSITORY / link).exists()


@pytest.mark.parametrize("script", sorted(set(re.findall(r"`((?:\w+/)?\w+\.py)\b", README))))
def test_scripts_exist(script):
    folders = ("", "tda_cnn_scripts", "tda_vit_scripts", "analysis")
    assert any((paths.REPOSITORY / folder / script).exists() for folder in folders)
