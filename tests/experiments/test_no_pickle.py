"""No file is unpickled or executed, anywhere in the project; downloads have checksums."""

import ast
import re
import subprocess

import pytest

from bayestda.experiments import paths

UNPICKLING = {
    "pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal",
    "jsonpickle", "hickle", "pickletools", "skops",
}  # fmt: skip
CALLS = {"torch.load", "pandas.read_pickle", "pd.read_pickle", "xr.load_pickle", "yaml.load",
         "torch.hub.load", "torch.jit.load", "np.fromfile"}  # fmt: skip
EXECUTING = {"eval", "exec", "compile", "__import__"}


def committed(*suffixes):
    """Files of the repository; outside a clone, all but the environment's."""
    asked = ["git", "-C", str(paths.REPOSITORY), "ls-files", "--cached", "--others",
             "--exclude-standard"]  # fmt: skip
    names = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return [paths.REPOSITORY / name for name in names if name.endswith(suffixes)]


def called(node):
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


@pytest.mark.parametrize("file", committed(".py", "Snakefile"), ids=lambda f: f.stem)
def test_no_file_unpickles(file):
    tree = ast.parse(file.read_text()) if file.suffix == ".py" else None
    if tree is None:
        assert not re.search(r"pickle|joblib|torch\.load", file.read_text())
        return
    for node in ast.walk(tree):
        imported = {
            ast.Import: lambda n: [name.name for name in n.names],
            ast.ImportFrom: lambda n: [n.module or ""],
        }.get(type(node), lambda _: [])(node)
        assert not UNPICKLING & {name.partition(".")[0] for name in imported}
        assert called(node) not in CALLS
        assert "allow_pickle" not in {own.arg for own in getattr(node, "keywords", [])}
        if not file.is_relative_to(paths.REPOSITORY / "tests"):
            assert called(node) not in EXECUTING
        weights_only = called(node).endswith("from_pretrained") or "load" in called(node)
        trusted = [own.arg for own in getattr(node, "keywords", []) if weights_only]
        assert "trust_remote_code" not in trusted


def test_the_search_finds_what_it_is_for(tmp_path):
    for line in ("import pickle", "from joblib import load", "torch.load(x)", "eval(x)",
                 "np.load(x, allow_pickle=True)"):  # fmt: skip
        file = tmp_path / "file.py"
        file.write_text(line)
        with pytest.raises(AssertionError):
            test_no_file_unpickles(file)


def test_every_address_is_https():
    for file in committed(".py", ".md", ".toml", ".txt", ".yaml", ".cff", "Makefile", "Snakefile"):
        found = re.findall(r"\bhttp://\S+", file.read_text())
        foreign = [url for url in found if not url.startswith("http://www.w3.org/")]
        assert not foreign or file.name == "test_no_pickle.py", (file, foreign)
