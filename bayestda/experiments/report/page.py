"""One HTML file from a report: template, style and script inlined, and nothing else is loaded.

The page's policy (Content-Security-Policy) forbids every connection, and every script but the one
that this project wrote: text of a data set cannot become a script.
"""

import base64
import hashlib
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from bayestda.experiments import results
from bayestda.experiments.report.model import Report
from bayestda.experiments.report.payload import explorer
from bayestda.experiments.report.plan import MEGABYTE
from bayestda.files import atomic

MAX_MB = 9.0
SCRIPTS = ("data.js", "format.js", "charts.js", "explorer.js")
TEMPLATES = resources.files("bayestda.experiments.report") / "templates"


def render(report: Report, max_mb: float = MAX_MB) -> str:
    """The page.

    Args:
        report: what to show.
        max_mb: what examples and scores of the explorer may take, in megabytes (10⁶ bytes).
    """
    description, blocks = explorer(report, max_mb * MEGABYTE)
    script = "".join(_read(name) for name in SCRIPTS)
    environment = Environment(
        loader=PackageLoader("bayestda.experiments.report"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        report=report,
        description=description,
        blocks=blocks,
        style=Markup(_read("report.css")),
        script=Markup(script),
        policy=policy(f"\n{script}"),
        commit=results.versions()["commit"],
    )


def write(path: Path, report: Report, max_mb: float = MAX_MB) -> Path:
    """Write the page whole; returns its path.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    atomic.write_bytes(path, render(report, max_mb).encode())
    return path


def policy(script: str) -> str:
    """What the page may do: run this script, show images that are in the page."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
