"""docs/page.md runs as written."""

import re
from pathlib import Path

import pytest
from html_pages import assert_self_contained

PAGE = Path(__file__).parents[2] / "docs" / "page.md"
TEXT = PAGE.read_text()


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The text of the page that its code writes."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("page")
        patch.chdir(folder)
        exec(compile(code, str(PAGE), "exec"), {})
    return (folder / "digits.html").read_text()


def test_its_code_writes_a_page_of_five_seeds_and_two_methods(html):
    described = assert_self_contained(html).description
    assert [one["name"] for one in described["methods"]] == ["influence", "grad_dot"]
    assert {len(one["seeds"]) for one in described["methods"]} == {5}
    assert len(described["predictions"]["classes"]) == 10


def test_the_parts_it_names_are_on_the_page(html):
    (table,) = re.findall(r"\| part \| shows \|\n(.*?)\n\n", TEXT, re.DOTALL)
    parts = re.findall(r"^\| ([^|-]+) \|", table, re.MULTILINE)
    assert parts == [title.strip() for title in re.findall(r"<h2[^>]*>([^<]*)</h2>", html)]


def test_files_and_folders_it_names_exist():
    names = re.findall(r"`((?:tests|bayestda|analysis)/[\w/.]+)`|python (\S+\.py)", TEXT)
    for name in map("".join, names):
        assert (PAGE.parents[1] / name).exists(), name
