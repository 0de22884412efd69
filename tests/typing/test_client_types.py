"""What a user's type checker sees of the clients: full types, and no Any."""

import subprocess
import sys
from pathlib import Path

import pytest

from visionmesh.client import AsyncClient, AsyncJobHandle, Client, JobHandle

USER = Path(__file__).with_name("user_of_both_clients.py")


def test_a_strict_user_sees_full_types_and_no_any(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    # As a user has it: in another folder, without this project's configuration of mypy.
    script = tmp_path / USER.name
    script.write_text(USER.read_text())
    cache = pytestconfig.cache
    assert cache is not None
    command = [sys.executable, "-m", "mypy", "--strict", "--disallow-any-expr", "--config-file="]
    checked = subprocess.run(
        [*command, "--cache-dir", cache.mkdir("mypy-of-users"), script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("kind", [Client, JobHandle, AsyncClient, AsyncJobHandle])
def test_the_script_leaves_no_method_out(kind: type) -> None:
    methods = {name for name in vars(kind) if not name.startswith("_")} - {"close"}
    part = {
        Client: "with_client",
        JobHandle: "with_job",
        AsyncClient: "with_async_client",
        AsyncJobHandle: "with_async_job",
    }[kind]
    text = USER.read_text()
    body = text[text.index(f"def {part}(") :]
    body = body[: body.index("\n\n\n")]
    assert [name for name in sorted(methods) if f".{name}(" not in body] == []
