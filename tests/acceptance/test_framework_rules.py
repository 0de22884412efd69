"""The kit for frameworks: whoever breaks a rule fails there and nowhere else."""

import ast
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import framework_page
import pytest

from runners.framework_kit.__main__ import EXIT_FAILED, EXIT_OK, EXIT_USAGE, main
from runners.framework_kit.__main__ import check as outcomes
from runners.framework_kit.kit import RULES, Kit

HERE = Path(__file__).parent
Examined = Future[dict[str, str]]


def broken() -> dict[str, str]:
    """The rule that each broken framework breaks, read from their docstrings."""
    tree = ast.parse((HERE / "broken_frameworks.py").read_text("utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    told = {node.name: ast.get_docstring(node) or "" for node in classes}
    return {name: text.partition(":")[0] for name, text in told.items() if re.match(r"F\d+:", text)}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every process finds the page's modules, and those that break them."""
    with framework_page.on_python_path(framework_page.write(tmp_path_factory.mktemp("example")), HERE):
        yield


def broken_rules(framework: str, folder: Path) -> dict[str, str]:
    """What is not kept, by rule."""
    with Kit(framework, folder=folder) as kit:
        said = list(outcomes(kit, list(RULES)))
    assert len(said) == len(RULES)
    return {outcome.rule: outcome.seen for outcome in said if outcome.state == "broken"}


@pytest.fixture(scope="module")
def examined(
    request: pytest.FixtureRequest, example: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Examined]]:
    """The frameworks of the chosen tests under examination, two at a time."""
    chosen = " ".join(item.name for item in request.session.items)
    names = ["Whole", *(name for name in broken() if f"[{name}-" in chosen)]
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(broken_rules, f"broken_frameworks:{name}", tmp_path_factory.mktemp(name))
            for name in names
        }


def test_one_with_every_kind_of_job_keeps_every_rule(examined: dict[str, Examined]) -> None:
    assert examined["Whole"].result() == {}


@pytest.mark.parametrize(("name", "rule"), broken().items(), ids=lambda part: part)
def test_whoever_breaks_a_rule_fails_there_and_nowhere_else(
    examined: dict[str, Examined], name: str, rule: str
) -> None:
    found = examined[name].result()
    print(found)
    assert list(found) == [rule], found


def test_each_rule_is_on_the_page_and_broken_by_somebody() -> None:
    page = framework_page.PAGE.read_text("utf-8")
    rows = dict(re.findall(r"^\| (F\d+) \| (.*) \|$", page, re.MULTILINE))
    assert rows == {name: rule.text for name, rule in RULES.items()}
    assert set(broken().values()) == set(RULES)


def test_the_program_says_which_rules_are_kept(example: None, capsys: pytest.CaptureFixture[str]) -> None:
    two = ("--only", "F15", "--only", "F24")
    assert main(["looking_colour:LookingColour", *two, "--epochs", "4"]) == EXIT_OK
    said = capsys.readouterr().out
    assert "ok   F15" in said
    assert "epochs 1 to 4" in said
    assert "1 of 1 rules are kept" in said
    assert main(["broken_frameworks:WrongTotal", "--only", "F15"]) == EXIT_FAILED
    assert "FAIL F15" in capsys.readouterr().out
    assert main(["absent"]) == EXIT_USAGE
    assert "There is no framework 'absent' here" in capsys.readouterr().err
