"""`python -m runners.framework_kit FRAMEWORK`: whether a framework keeps the rules."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.framework import FrameworkNotFound
from runners.framework_kit.kit import Kit
from runners.framework_kit.rules import RULES, Broken, NotChecked
from runners.framework_kit.trial import NoData, Trial

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


@dataclass(frozen=True)
class Outcome:
    """How it went with one rule."""

    rule: str
    state: str
    """kept, broken, or unchecked because another rule is broken."""

    seen: str
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """Check the rules and print how they went; the exit code."""
    chosen = _parser().parse_args(arguments)
    if chosen.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--list | head` is no error
        for rule, asked in RULES.items():
            print(f"{rule:4} {asked.text}")
        return EXIT_OK
    if not chosen.framework:
        sys.stderr.write("Name a framework: an installed one, or module:Class.\n")
        return EXIT_USAGE
    try:
        with Kit(chosen.framework, _trial(chosen)) as kit:
            return _report(check(kit, chosen.only or list(RULES)), as_json=chosen.output == "jsonl")
    except (FrameworkNotFound, NoData, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE


def check(kit: Kit, rules: list[str]) -> Iterator[Outcome]:
    """Each of `rules` that is about what the framework does."""
    for rule in filter(kit.applies, rules):
        began = time.monotonic()
        try:
            state, seen = "kept", kit.check(rule)
        except Broken as broken:
            state, seen = "broken", broken.what
        except NotChecked as unchecked:
            state, seen = "unchecked", str(unchecked)
        yield Outcome(rule, state, seen, time.monotonic() - began)


def _report(outcomes: Iterator[Outcome], *, as_json: bool) -> int:
    states = []
    for outcome in outcomes:
        states.append(outcome.state)
        print(json.dumps(vars(outcome)) if as_json else _row(outcome), flush=True)
    kept = states.count("kept")
    if not as_json:
        print(f"\n{kept} of {len(states)} rules are kept")
    return EXIT_OK if kept == len(states) else EXIT_FAILED


def _row(outcome: Outcome) -> str:
    sign = {"kept": "ok  ", "broken": "FAIL", "unchecked": "--- "}[outcome.state]
    row = f"{sign} {outcome.rule:4} {outcome.seconds:5.1f} s  {RULES[outcome.rule].text}"
    return f"{row}\n                   {outcome.seen}"


def _trial(chosen: argparse.Namespace) -> Trial:
    given = {
        name: getattr(chosen, name)
        for name in Trial.__dataclass_fields__
        if getattr(chosen, name, None) is not None
    }
    return Trial(**{**given, "hyperparameters": dict(map(_setting, chosen.set or []))})


def _setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"--set {text} is not like --set NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runners.framework_kit",
        description="Starts small jobs of a framework, as a runner's agent does, and tells which rules of "
        "docs/frameworks.md it keeps. For runners there is python -m runners.conformance.",
        epilog="Exit code: 0 every rule is kept, 1 one is not, 2 usage.",
    )
    parser.add_argument("framework", nargs="?", help="an installed framework, or module:Class")
    parser.add_argument("--model", help="model to use (the smallest of the manifest)")
    parser.add_argument("--task", help="what to learn (the first of the model's tasks)")
    parser.add_argument("--epochs", type=int, help="epochs of a training, at least 3 (3)")
    parser.add_argument("--batch-size", type=int, help="images per step (4)")
    parser.add_argument("--image-size", type=int, help="side of the network's input in pixels (64)")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", help="hyperparameter; repeatable")
    parser.add_argument("--dataset", type=Path, metavar="FOLDER", help="data to learn from (drawn shapes)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="images to look at (drawn shapes)")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="weights to use (those of the kit's own training)"
    )
    parser.add_argument(
        "--embedding-checkpoint", type=Path, metavar="FILE", help="what makes vectors of faces"
    )
    parser.add_argument("--job-seconds", type=float, help="most time that a job may take (300)")
    parser.add_argument("-o", "--output", choices=("table", "jsonl"), default="table", help="how to print")
    parser.add_argument("--only", metavar="RULE", action="append", choices=list(RULES), help="repeatable")
    parser.add_argument("--list", action="store_true", help="list the rules, and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
