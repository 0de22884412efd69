"""A scheduler that misbehaves on purpose, to find out whether a runner keeps the rules of docs/protocol.md.

    python -m runners.conformance -- python -m runners.agent --scheduler {address} ...

(For a framework, which runs inside our own runner, there is runners.framework_kit.)

The runner may be written in any language. It is started once and sees one case after the other; a
case that fails gets the next one a fresh runner.
"""

import os

# gRPC writes a line for each connection that a runner gives up; nobody asked for them here.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
