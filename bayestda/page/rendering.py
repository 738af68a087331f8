"""Write a report as one HTML file with template, style and script inside; it loads nothing else.

The page's policy (Content-Security-Policy) forbids every connection, and every script but the one
that the library wrote. So the text of a data set cannot become a script.
"""

import base64
import hashlib
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from bayestda.files import atomic
from bayestda.page.model import Report
from bayestda.page.payload import explorer
from bayestda.page.plan import MEGABYTE

MAX_MB = 9.0
SCRIPTS = ("data.js", "format.js", "charts.js", "explorer.js")
TEMPLATES = resources.files("bayestda.page") / "templates"


def render(report: Report, max_mb: float = MAX_MB) -> str:
    """Return the page.

    Args:
        report: Everything to show.
        max_mb: Megabytes (10⁶ bytes) that examples and scores of the explorer may take.
    """
    description, blocks = explorer(report, max_mb * MEGABYTE)
    script = "".join(_read(name) for name in SCRIPTS)
    environment = Environment(
        loader=PackageLoader("bayestda.page"),
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
        tested=any(method.scores.sizes["seed"] > 1 for method in report.methods.values()),
    )


def write(path: Path, report: Report, max_mb: float = MAX_MB) -> Path:
    """Write the page whole and return its path.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    atomic.write_bytes(path, render(report, max_mb).encode())
    return path


def policy(script: str) -> str:
    """Return the page's policy: it may run this script and show images that it contains."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
