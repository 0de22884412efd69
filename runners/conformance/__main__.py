"""`python -m runners.conformance -- COMMAND`: whether the runner that COMMAND starts keeps the rules."""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runners.conformance.case import Case, Models
from runners.conformance.cases import CASES
from runners.conformance.play import Outcome, play
from runners.conformance.rules import RULES

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Play the cases and print how they went; the exit code."""
    chosen = _parser().parse_args(arguments)
    if chosen.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--list | head` is no error
        _print_rules()
        return EXIT_OK
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    if not any("{address}" in part for part in command):
        sys.stderr.write("Give the command that starts the runner, with {address} where it is to dial.\n")
        return EXIT_USAGE
    cases = [case for case in CASES if not chosen.only or case.name in chosen.only]
    models = Models(chosen.model, chosen.talkative_model)
    try:
        return asyncio.run(_run(command, cases, models, as_json=chosen.output == "jsonl"))
    except asyncio.CancelledError:
        return EXIT_FAILED
    except OSError as error:
        sys.stderr.write(f"The runner cannot be started: {error}. Check the command.\n")
        return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runners.conformance",
        description="Plays a scheduler that misbehaves on purpose, and tells which rules of docs/protocol.md "
        "a runner keeps. The runner is given small trainings; it must run on this machine.",
        epilog="Exit code: 0 every case passed, 1 one failed, 2 usage.",
    )
    parser.add_argument("-o", "--output", choices=("table", "jsonl"), default="table", help="how to print")
    parser.add_argument(
        "--only", metavar="CASE", action="append", choices=[c.name for c in CASES], help="repeatable"
    )
    parser.add_argument("--model", default="", help="what TrainSpec.model says (the manifest's first)")
    parser.add_argument(
        "--talkative-model",
        default="",
        metavar="MODEL",
        help="a model whose training says a lot (as --model)",
    )
    parser.add_argument("--list", action="store_true", help="list rules and cases, and end")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command that starts the runner")
    return parser


def _print_rules() -> None:
    for rule, text in RULES.items():
        cases = ", ".join(case.name for case in CASES if rule in case.rules)
        print(f"{rule:4} {text}\n     {cases}")


async def _run(command: Sequence[str], cases: Sequence[Case], models: Models, *, as_json: bool) -> int:
    outcomes: list[Outcome] = []
    if (task := asyncio.current_task()) is not None:  # else the runner would outlive this program
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        async for outcome in play(command, cases, models, Path(folder) / "runner.log"):
            outcomes.append(outcome)
            print(_line(outcome) if as_json else _row(outcome), flush=True)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if not as_json:
        seconds = sum(outcome.seconds for outcome in outcomes)
        print(f"\n{len(outcomes) - len(failed)} of {len(outcomes)} cases passed in {seconds:.0f} s")
    return EXIT_FAILED if failed else EXIT_OK


def _row(outcome: Outcome) -> str:
    sign = "ok  " if outcome.passed else "FAIL"
    rule = outcome.rule or ",".join(outcome.case.rules)
    row = f"{sign} {outcome.case.name:16} {rule:12} {outcome.seconds:5.1f} s  {outcome.seen}"
    if outcome.passed:
        return row
    said = "".join(f"\n       | {line}" for line in outcome.log.splitlines())
    return f"{row}\n     the scheduler {outcome.case.says}; rule {rule}: {RULES[rule]}{said}"


def _line(outcome: Outcome) -> str:
    return json.dumps(
        {
            "case": outcome.case.name,
            "passed": outcome.passed,
            "rules": outcome.case.rules,
            "broken": outcome.rule or None,
            "seen": outcome.seen,
            "seconds": round(outcome.seconds, 2),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
