"""What is installed, against req.lock; downloads, against checksums."""

import base64
import hashlib
import json
import re
from importlib.metadata import PathDistribution

import pytest

from tda import paths, preparation, sources, supply
from tda.errors import UserError
from tda.supply import Locked

LOCK = supply.locked(supply.LOCK)


def test_req_txt_is_exact_and_req_lock_has_it_with_hashes():
    lines = [line for line in supply.REQUIRED.read_text().splitlines() if line[:1] not in "# "]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert supply.unlocked(supply.pins(supply.REQUIRED), LOCK) == []
    assert len(LOCK) > len(lines)
    assert not re.search(r"https?://|file:|--index|--find-links", supply.LOCK.read_text())


def test_a_pin_without_a_lock_is_found():
    wrong = supply.unlocked({"torch": "0.1", "numpy": "9", "new": "1"}, LOCK)
    assert [line.split()[3] for line in wrong] == ["torch", "numpy", "new"]


def test_a_lock_without_hashes_is_refused(tmp_path):
    (tmp_path / "req.lock").write_text("numpy==1.0 \\\n    --hash=sha256:" + "0" * 63 + "\n")
    with pytest.raises(UserError, match="no pin with hashes"):
        supply.locked(tmp_path / "req.lock")


def test_another_version_is_found():
    lock = {"numpy": Locked("0.1", frozenset(["a"])), "torch": LOCK["torch"]}
    wrong = supply.wrong_versions(lock, {"numpy": "0.1", "no-such-package": "1"})
    assert len(wrong) == 2
    assert wrong[0].startswith("numpy ") and "req.lock has 0.1" in wrong[0]
    assert wrong[1].startswith("no-such-package is missing")


def test_a_file_that_has_changed_is_found(tmp_path):
    info, module = tmp_path / "own-1.0.dist-info", tmp_path / "own.py"
    info.mkdir()
    module.write_text("right")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"right").digest()).rstrip(b"=").decode()
    (info / "RECORD").write_text(f"own.py,sha256={digest},5\nown-1.0.dist-info/RECORD,,\n")
    assert list(supply.changed_files(PathDistribution(info))) == []
    module.write_text("wrong")
    assert len(list(supply.changed_files(PathDistribution(info)))) == 1
    module.unlink()
    assert len(list(supply.changed_files(PathDistribution(info)))) == 1


def test_hashes_that_the_index_lacks_are_found_and_new_files_are_no_matter():
    index = {"a": Locked("1", frozenset("xyz")), "b": Locked("1", frozenset("x"))}
    lock = {"a": Locked("1", frozenset("xy")), "b": Locked("1", frozenset("xy"))}
    assert [line.split()[6] for line in supply.withdrawn(lock, index)] == ["b"]


def test_a_vulnerability_is_an_error_unless_explained(monkeypatch):
    report = {"dependencies": [
        {"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]},
        {"name": "b", "version": "1", "vulns": []},
        {"name": "c", "skip_reason": "not found"},
    ]}  # fmt: skip
    found, audited = supply.vulnerable(report)
    assert (len(found), audited) == (1, 2)
    monkeypatch.setitem(supply.EXPLAINED, "CVE-1", "the function is not used")
    assert supply.vulnerable(report) == ([], 2)


def test_images_of_every_task_and_model_have_checksums():
    """What a source gives is compared with these before anything is written."""
    recorded = json.loads((paths.REPOSITORY / "data" / "checksums.json").read_text())
    assert set(sources.HUB) == set(sources.TORCHVISION) == set(recorded)
    for splits in recorded.values():
        for record in splits.values():
            assert re.fullmatch(r"[0-9a-f]{64}", record["sha256"])
    other = {**recorded["mnist3"]["train"], "sha256": "0" * 64}
    with pytest.raises(UserError, match="nothing was written"):
        preparation._accepted("mnist3 train", other, recorded["mnist3"]["train"])
