"""What a test needs and a machine may lack: a skip that says how to install it, a failure where CI is set."""

import os
import shutil
from collections.abc import Callable

import pytest

Require = Callable[[str, str], str]


@pytest.fixture(scope="session")
def require() -> Require:
    """Finds a program: `require("npm", "apt-get install npm")` is its path, or the end of the test."""

    def find(program: str, install: str) -> str:
        found = shutil.which(program)
        if found is None:
            lack = f"{program} is not on PATH: {install}"
            pytest.fail(f"{lack} (where CI is set nothing is skipped)") if os.environ.get(
                "CI"
            ) else pytest.skip(lack)
        return found

    return find
