"""The conformance program: our own agent passes it, and a runner that breaks a rule fails just there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runners.conformance.__main__ import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from runners.conformance.cases import CASES
from runners.conformance.rules import RULES

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "protocol.md"
DEADLINE = 200
SMALL = (sys.executable, str(HERE / "small_runner_double.py"), "{address}")


def conformance(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what was said about each case."""
    command = [sys.executable, "-m", "runners.conformance", "-o", "jsonl", *arguments]
    python_path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={**os.environ, "PYTHONPATH": python_path},
    )
    assert ran.returncode in (EXIT_OK, EXIT_FAILED), ran.stderr
    return ran.returncode, {line["case"]: line for line in map(json.loads, ran.stdout.splitlines())}


def broken(said: dict[str, dict[str, Any]]) -> list[str]:
    """What was seen in the cases that did not pass."""
    return [f"{name}: {line['seen']}" for name, line in said.items() if not line["passed"]]


def test_our_own_agent_keeps_every_rule(tmp_path: Path) -> None:
    agent = (sys.executable, "-m", "runners.agent", "--scheduler", "{address}")
    options = (
        "--framework",
        "colour_framework:Colours",
        "--runner-id",
        "tested",
        "--work-dir",
        str(tmp_path),
    )
    models = ("--model", "logistic", "--talkative-model", "logistic_talkative")
    code, said = conformance(*models, "--", *agent, *options)
    assert broken(said) == []
    assert list(said) == [case.name for case in CASES]
    assert code == EXIT_OK


def test_a_runner_written_from_the_page_keeps_every_rule() -> None:
    code, said = conformance("--", *SMALL)
    assert broken(said) == []
    assert code == EXIT_OK


@pytest.mark.parametrize(
    ("mutation", "case", "rules"),
    [
        ("renumbers", "lost-ack", {"R6"}),
        ("changes_content", "silent", {"R7"}),
        ("ends_early", "slow-results", {"R13"}),
        ("ignores_aborted", "superseded", {"R11"}),
        ("loops_on_size", "too-large", {"R15"}),
        ("ignores_kill", "kill", {"R18"}),
    ],
)
def test_a_runner_that_breaks_a_rule_fails_there_and_nowhere_else(
    mutation: str, case: str, rules: set[str]
) -> None:
    code, said = conformance("--only", "life", "--only", case, "--", *SMALL, mutation)
    assert code == EXIT_FAILED
    assert said["life"]["passed"], said["life"]
    assert not said[case]["passed"]
    assert {said[case]["broken"]} == rules, said[case]


def test_a_runner_that_never_dials_fails_and_a_command_without_an_address_is_refused() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "runners.conformance", "--", "true"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == EXIT_USAGE
    assert "{address}" in ran.stderr


def test_the_page_has_each_rule_under_its_id_and_each_rule_has_a_case() -> None:
    described = set(re.findall(r"^\| (R\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert described == set(RULES)
    assert {rule for case in CASES for rule in case.rules} == set(RULES)
