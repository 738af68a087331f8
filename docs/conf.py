"""How Sphinx builds docs/ (`make docs`): the pages as they are, and the API from the docstrings."""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

project = "bayestda"
author = copyright = "The bayestda maintainers"  # noqa: A001 (Sphinx's name)
release = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "myst_parser",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}  # .rst: what autosummary writes
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"bayestda {release}"
html_show_sphinx = False

myst_heading_anchors = 4  # for links such as results.md#not-run-yet, as on repository hosts
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def setup(app):
    """Register the two changes to what Sphinx reads."""
    app.connect("source-read", offer_files_outside)
    app.connect("autodoc-process-docstring", link_short_names)


def offer_files_outside(_app, _name, source):
    """Offer Markdown files outside docs/, which are no pages here, as downloads."""
    source[0] = re.sub(r"\]\((\.\./[^)#]+\.md)(#[^)]*)?\)", r"](path:\1)", source[0])


def link_short_names(_app, _what, _name, _obj, _options, lines):
    """Link ``tda.attribute``, the name that users write, to ``bayestda.attribute``."""
    short = re.compile(r":(\w+):`tda\.([\w.]+)`")
    lines[:] = [short.sub(r":\1:`tda.\2 <bayestda.\2>`", line) for line in lines]
