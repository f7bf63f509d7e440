"""What every test has: one thread, the shared fixtures, and the only door to data outside the repository."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: threads only slow small networks down

pytest_plugins = ["helpers.cub", "helpers.marked_images", "helpers.small_runs", "helpers.weights"]

OUTSIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def outside() -> Callable[[str], Path]:
    """The path of data beside the repository, ../shared/data/<name>; without it, the test is skipped."""

    def find(name: str) -> Path:
        if not (OUTSIDE / name).exists():
            pytest.skip(
                f"../shared/data/{name} is not there: other people's data are no part of the repository"
            )
        return OUTSIDE / name

    return find
