"""docs/reliability.md: every test that it names is there, and every fault names one."""

import re

import pytest

from bayestda.experiments import paths

PAGE = (paths.REPOSITORY / "docs" / "reliability.md").read_text()
FAULTS = PAGE.partition("## Faults")[2].partition("### What is not caught")[0]
TABLES = re.findall(r"(?m)^\|.*\n(?:\|.*\n)+", PAGE)
TESTED = [table for table in TABLES if table.splitlines()[0].endswith("| test |")]
ROWS = [row for table in TESTED for row in table.splitlines()[2:]]


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", PAGE))))
def test_a_named_test_is_there(named):
    file, _, function = named.partition("::")
    text = (paths.REPOSITORY / file).read_text()
    assert f"\ndef {function}(" in text if function else "\ndef test_" in text


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_its_test(row):
    assert re.search(r"`tests/\w+", row)


def test_every_table_of_faults_has_a_column_of_tests():
    tables_of_faults = [table for table in TABLES if table in FAULTS]
    assert len(tables_of_faults) > 1
    assert set(tables_of_faults) <= set(TESTED)
