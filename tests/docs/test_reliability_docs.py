"""docs/reliability.md: every test that it names is there, and every row names one."""

import re

import pytest

from bayestda.experiments import paths

PAGE = (paths.REPOSITORY / "docs" / "reliability.md").read_text()
ROWS = [line for line in PAGE.partition("## Equal bits")[0].splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", PAGE))))
def test_a_named_test_is_there(named):
    file, _, function = named.partition("::")
    text = (paths.REPOSITORY / file).read_text()
    assert f"\ndef {function}(" in text if function else "\ndef test_" in text


@pytest.mark.parametrize(
    "row", [row for row in ROWS if not row.startswith(("| fault", "| what |"))]
)
def test_a_row_names_its_test(row):
    assert re.search(r"`tests/\w+", row)
