"""vmesh runners, drain, undrain: who does the work."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import grpc
import typer

from visionmesh.cli import _values
from visionmesh.cli._console import print_message, print_messages, status_console
from visionmesh.cli._options import MeshOptions, Output, OutputOption, RunnerArgument
from visionmesh.cli._run import Exit, run
from visionmesh.cli._tables import runners_table
from visionmesh.client import AsyncClient
from visionmesh.errors import MeshError
from visionmesh.v1 import runner_pb2

_LOOK_EVERY = 1.0  # seconds: runners cannot be watched


def runners(mesh: MeshOptions, output: OutputOption = Output.TABLE) -> None:
    """List runners: what they have, what they do, when they were heard last."""

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            found = [runner async for runner in client.list_runners()]
        none = "No runner has connected yet. `vmesh up` starts one with the mesh."
        print_messages(found, output, runners_table(found, datetime.now(UTC)), none)
        return Exit.OK

    run(work())


def drain(
    runner: RunnerArgument,
    mesh: MeshOptions,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Return when it runs nothing any more.")] = False,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="Longest time that --wait waits.", show_default=False)
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Give a runner no more jobs; those that it has run to their end."""
    limit = _values.duration(timeout).total_seconds() if timeout else None

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            drained = await client.drain_runner(runner)
            if wait and drained.attempts:
                status_console().print(f"{drained.name} still runs {_jobs_of(drained)}; waiting…")
                drained = await _until_idle(client, drained, limit)
        still = f"; it still runs {_jobs_of(drained)}" if drained.attempts else ""
        text = f"{drained.name} takes no more jobs{still}. Undo: vmesh undrain {_id(drained)}{mesh.flag}"
        print_message(drained, output, text)
        return Exit.OK

    run(work())


def undrain(runner: RunnerArgument, mesh: MeshOptions, output: OutputOption = Output.TABLE) -> None:
    """Let a drained runner take jobs again."""

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            again = await client.undrain_runner(runner)
        print_message(again, output, f"{again.name} takes jobs again")
        return Exit.OK

    run(work())


async def _until_idle(
    client: AsyncClient, runner: runner_pb2.Runner, timeout: float | None
) -> runner_pb2.Runner:
    try:
        async with asyncio.timeout(timeout):
            while runner.attempts:
                await asyncio.sleep(_LOOK_EVERY)
                runner = await client.runner(runner.name)
    except TimeoutError:
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        text = (
            f"{runner.name} still runs {_jobs_of(runner)} after {timeout:g} s. It stays drained: wait longer."
        )
        raise MeshError(code, code.name, text, {"runner": runner.name}) from None
    return runner


def _jobs_of(runner: runner_pb2.Runner) -> str:
    return ", ".join(attempt.job for attempt in runner.attempts)


def _id(runner: runner_pb2.Runner) -> str:
    return runner.name.partition("/")[2]
