"""`vmesh`, the command line.

Exit codes: 0 ok, 1 job failed, 2 usage or refused, 3 cancelled, 4 unreachable, 5 timeout,
130 interrupted (the job goes on).
"""

import os

# Lost connections are reported by the commands themselves; gRPC's own lines would tear the bars apart.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from visionmesh.cli._app import app, main

__all__ = ["app", "main"]
