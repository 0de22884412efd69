"""vmesh doctor."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visionmesh.cli._console import data_console, status_console
from visionmesh.cli._mesh_commands import DATA_DIR, data_folder
from visionmesh.cli._options import MeshOptions, Output, OutputOption
from visionmesh.cli._run import Exit, run
from visionmesh.client import DEFAULT_ADDRESS
from visionmesh.doctor import Finding, Verdict
from visionmesh.doctor._examine import examine

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.PROBLEM: "bold red"}
_VERDICT_WIDTH, _CHECK_WIDTH = 7, 15


def doctor(
    mesh: MeshOptions,
    data_dir: Annotated[
        Path, typer.Option(help="Folder of the mesh on this machine.", file_okay=False)
    ] = DATA_DIR,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check this machine and its mesh: packages, GPU, disks, database, stores. 2 if there is a problem."""
    run(_doctor(data_folder(data_dir), mesh.address or DEFAULT_ADDRESS, output))


async def _doctor(data_dir: Path, address: str, output: Output) -> Exit:
    out, found = data_console(), list[Finding]()
    sign = (
        out if output is Output.TABLE else status_console()
    )  # of two consoles one would draw over the other
    with sign.status("Looking…"):
        async for finding in examine(data_dir, address):
            found.append(finding)
            if output is Output.TABLE:
                show_finding(out, finding)
            elif output is Output.JSONL:
                print(json.dumps(finding.as_object(), ensure_ascii=False), flush=True)
    if output is Output.JSON:
        print(json.dumps([finding.as_object() for finding in found], indent=2, ensure_ascii=False))
    if output is Output.TABLE:
        out.print(f"\n{summary(found)}")
    problems = any(finding.verdict is Verdict.PROBLEM for finding in found)
    return Exit.REFUSED if problems else Exit.OK


def show_finding(out: Console, finding: Finding) -> None:
    """One line, and what to do below it."""
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=_VERDICT_WIDTH)
    line.add_column(width=_CHECK_WIDTH)
    line.add_column(overflow="fold")
    style = _STYLES[finding.verdict]
    line.add_row(f"[{style}]{finding.verdict}[/]", escape(finding.check), escape(finding.seen))
    if finding.advice:
        line.add_row("", "", f"[{style}]→[/] {escape(finding.advice)}")
    out.print(line)


def summary(found: list[Finding]) -> str:
    """How it stands in all."""
    counts = {verdict: sum(finding.verdict is verdict for finding in found) for verdict in Verdict}
    told = [
        f"{count} {verdict}" if count == 1 else f"{count} {verdict}s"
        for verdict, count in reversed(counts.items())
        if count and verdict is not Verdict.OK
    ]
    return f"{' and '.join(told)}; the arrows say what to do." if told else "All is well."
