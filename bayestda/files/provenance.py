"""Record the versions of the packages that make a file."""

import platform
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec

PACKAGES = ("bayestda", "torch", "numpy", "xarray", "torchvision", "transformers", "peft")


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute, for a file's attributes."""
    packages = {f"version_{name}": version(name) for name in PACKAGES if find_spec(name)}
    return {**packages, "version_python": platform.python_version()}
