"""What is installed is locked with hashes; downloads are compared with checksums."""

import json
import re

import pytest

from bayestda.errors import UserError
from bayestda.experiments import paths, tasks
from bayestda.experiments.data import prepare


def test_every_pin_is_locked_with_a_hash_and_no_address():
    required = re.findall(r"^([\w-]+)==([^\s]+)", (paths.REPOSITORY / "req.txt").read_text(), re.M)
    lock = (paths.REPOSITORY / "req.lock").read_text()
    for name, version in required:
        if name != "setuptools":  # which uv leaves out
            assert re.search(
                rf"^{name}=={re.escape(version)}\b.*\\\n +--hash=sha256:", lock, re.M
            ), name
    assert not re.search(r"https?://|file:|--index|--find-links", lock)


def test_images_of_every_task_and_model_have_checksums():
    """What a source gives is compared with these before anything is written."""
    recorded = json.loads((paths.REPOSITORY / "data" / "checksums.json").read_text())
    assert set(tasks.TASKS) == set(recorded)
    assert all(task.hub and task.torchvision for task in tasks.TASKS.values())
    for splits in recorded.values():
        for record in splits.values():
            assert re.fullmatch(r"[0-9a-f]{64}", record["sha256"])
    other = {**recorded["mnist3"]["train"], "sha256": "0" * 64}
    with pytest.raises(UserError, match="nothing was written"):
        prepare._accepted("mnist3 train", other, recorded["mnist3"]["train"])
