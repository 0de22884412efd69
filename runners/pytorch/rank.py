"""`python -m runners.pytorch.rank MODULE:FUNCTION`: one of the processes that `ranks.together` starts."""

import importlib
import os
import signal
import sys
import traceback
from pathlib import Path

from runners.process import fork
from runners.process.emitter import Emitter, to_fd
from runners.process.errors import ending_of
from visionmesh.v1 import progress_pb2


def main() -> int:
    """Do the work with the others; report to rank 0 when it can begin, and how it ended."""
    from runners.pytorch import ranks

    if not fork.dies_with_parent(int(os.environ[ranks.PARENT_VARIABLE])):
        return 1
    fork.prefer_for_oom_kill()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the first process decides
    report = Emitter(to_fd(int(os.environ[ranks.REPORT_VARIABLE])))
    try:
        module, _, function = sys.argv[1].partition(":")
        work = getattr(importlib.import_module(module), function)
        report.started(progress_pb2.AttemptStarted(pid=os.getpid()))
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        store = Path(os.environ[ranks.STORE_VARIABLE])
        work(ranks.join(rank, count, os.environ[ranks.DEVICE_VARIABLE], store))
        ranks.leave()
    except BaseException as error:
        report.ended(ending_of(error))
        traceback.print_exc()
        return 1
    report.ended(None)
    return 0


if __name__ == "__main__":
    # As in a job process: what native modules would do and say at the end is nobody's concern.
    fork.leave(main())
