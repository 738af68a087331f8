"""README: its Python runs, its commands and links exist."""

import re

import pytest
from score_files import write_experiment
from test_analysis_tables import METHODS

from tda import paths

README = (paths.REPOSITORY / "README.md").read_text()


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    write_experiment("cnn2_mnist3_10pc", METHODS)
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", README, re.DOTALL)[1], names)
    assert set(names["pairs"]["p"].dims) == {"train", "test"}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert link.startswith("https://") or (paths.REPOSITORY / link).exists()


@pytest.mark.parametrize("script", sorted(set(re.findall(r"`((?:\w+/)?\w+\.py)\b", README))))
def test_scripts_exist(script):
    folders = ("", "tda_cnn_scripts", "tda_vit_scripts", "analysis")
    assert any((paths.REPOSITORY / folder / script).exists() for folder in folders)
