"""The kit for frameworks: the documented example keeps the rules, and whoever breaks one fails there."""

import ast
import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from runners.framework_kit.__main__ import EXIT_FAILED, EXIT_OK, EXIT_USAGE, main
from runners.framework_kit.__main__ import check as outcomes
from runners.framework_kit.kit import RULES, Kit, Trial

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "frameworks.md"
MOST_LINES = 60
Examined = Future[dict[str, str]]


def python_blocks() -> dict[str, str]:
    """The page's modules by file name."""
    found = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return dict(found)


def broken() -> dict[str, str]:
    """The rule that each broken framework breaks, read from their docstrings."""
    tree = ast.parse((HERE / "broken_frameworks.py").read_text("utf-8"))
    classes = {
        node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.ClassDef)
    }
    return {name: text.partition(":")[0] for name, text in classes.items() if re.match(r"F\d+:", text)}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the modules of the page, which every process finds."""
    folder = tmp_path_factory.mktemp("example")
    for name, code in python_blocks().items():
        (folder / name).write_text(code, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(folder), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield folder


def broken_rules(framework: str, folder: Path, trial: Trial | None = None) -> dict[str, str]:
    """What is not kept, by rule."""
    with Kit(framework, trial, folder) as kit:
        said = list(outcomes(kit, list(RULES)))
    assert len(said) > 20
    return {outcome.rule: outcome.seen for outcome in said if outcome.state == "broken"}


@pytest.fixture(scope="module")
def examined(
    request: pytest.FixtureRequest, example: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Examined]]:
    """The broken frameworks of the chosen tests under examination, two at a time."""
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
    rows = dict(re.findall(r"^\| (F\d+) \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE))
    assert rows == {name: rule.text for name, rule in RULES.items()}
    assert set(broken().values()) == set(RULES)


def test_the_example_is_short() -> None:
    code = python_blocks()["nearest_colour.py"]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 120


def test_the_program_says_which_rules_are_kept(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["looking_colour:LookingColour", "--only", "F15", "--only", "F24", "--epochs", "4"]) == EXIT_OK
    )
    assert "ok   F15" in (said := capsys.readouterr().out)
    assert "epochs 1 to 4" in said
    assert "1 of 1 rules are kept" in said
    assert main(["broken_frameworks:WrongTotal", "--only", "F15"]) == EXIT_FAILED
    assert "FAIL F15" in capsys.readouterr().out
    assert main(["absent"]) == EXIT_USAGE
    assert "There is no framework 'absent' here" in capsys.readouterr().err
    assert main(["--list"]) == EXIT_OK


OURS = {
    "timm": Trial(model="test_efficientnet_gn"),
    "ultralytics": Trial(model="yolo11n", hyperparameters={"nbs": 4, "warmup_epochs": 0, "mosaic": 0}),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("framework", OURS)
def test_our_own_frameworks_keep_every_rule(framework: str, tmp_path: Path) -> None:
    with Kit(framework, OURS[framework], tmp_path) as kit:
        said = [(outcome.rule, outcome.state, outcome.seen) for outcome in outcomes(kit, list(RULES))]
    print(*said, sep="\n")
    assert [one for one in said if one[1] != "kept"] == []
    assert len(said) >= 30
