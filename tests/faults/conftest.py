"""What the tests of faults share; the server's imports, where a ViT will be needed."""

import shutil

import forks
import pytest
import stages


def pytest_collection_finish(session):
    """Processes are forked from one that has imported what a ViT needs, if one is tested."""
    if any("vit" in item.nodeid for item in session.items):
        forks.SERVER.set_forkserver_preload([*forks.IMPORTED, "transformers", "peft"])


@pytest.fixture(scope="session", autouse=True)
def _remove_references():
    yield
    shutil.rmtree(stages.FOLDER, ignore_errors=True)
