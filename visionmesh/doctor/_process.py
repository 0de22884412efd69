"""Runs a module in a process of its own and reads the JSON lines that it prints."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any


class ProbeFailed(Exception):
    """The process did not answer; the message says how it ended."""


async def lines_of(
    module: str, arguments: Sequence[str], timeout: float, environ: Mapping[str, str] | None = None
) -> list[Any]:
    """What `python -m module` prints, read as one JSON value per line. Raises ProbeFailed.

    `environ` is added to our own environment; `timeout` is in seconds.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
    )
    try:
        async with asyncio.timeout(timeout):
            output, errors = await process.communicate()
    except TimeoutError:
        raise ProbeFailed(f"it did not answer within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        if process.returncode:
            raise ValueError
        return [json.loads(line) for line in output.splitlines()]
    except ValueError:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise ProbeFailed(f"it ended with code {process.returncode}: {last[0]}") from None
