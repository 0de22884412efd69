"""How an attempt ended, in the scheduler's words."""

import signal
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
from google.rpc import status_pb2

from visionmesh.errors import MeshError, Reason, status_of
from visionmesh.v1 import progress_pb2, vision_pb2

_TIMEOUT_GRACE = timedelta(seconds=10)
_SAYABLE = frozenset(
    {
        vision_pb2.ATTEMPT_STATE_SUCCEEDED,
        vision_pb2.ATTEMPT_STATE_FAILED,
        vision_pb2.ATTEMPT_STATE_CANCELLED,
    }
)
_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Ending:
    """How an attempt ended."""

    outcome: "vision_pb2.AttemptState.ValueType"
    """SUCCEEDED, FAILED, CANCELLED or RELEASED."""

    cause: "vision_pb2.AttemptCause.ValueType" = vision_pb2.ATTEMPT_CAUSE_UNSPECIFIED
    """Why, unless it succeeded."""

    error: status_pb2.Status | None = None
    """The same with words."""

    def message(self, results_number: int) -> progress_pb2.AttemptEnded:
        """The last update of the attempt, after `results_number` results."""
        return progress_pb2.AttemptEnded(
            outcome=self.outcome, cause=self.cause, error=self.error, results_number=results_number
        )


@dataclass(frozen=True)
class Stop:
    """Somebody wants the attempt to stop."""

    cause: "vision_pb2.AttemptCause.ValueType"
    """CANCELLED, DRAINED, PREEMPTED or TIMEOUT."""

    grace: timedelta
    """Time that the job process has to stop by itself."""

    why: str
    """For people."""

    @classmethod
    def of_timeout(cls, limit: timedelta) -> "Stop":
        """The attempt has run longer than its job's run_timeout."""
        seconds = f"{limit.total_seconds():g} s"
        why = f"The run took longer than its run_timeout of {seconds}. Give it more, or less to do."
        return cls(vision_pb2.ATTEMPT_CAUSE_TIMEOUT, _TIMEOUT_GRACE, why)


SUCCEEDED = Ending(vision_pb2.ATTEMPT_STATE_SUCCEEDED)
"""Everything went well."""


def failed(
    cause: "vision_pb2.AttemptCause.ValueType", code: grpc.StatusCode, reason: str, message: str
) -> Ending:
    """The attempt failed."""
    return Ending(vision_pb2.ATTEMPT_STATE_FAILED, cause, status_of(MeshError(code, reason, message)))


def infrastructure(message: str) -> Ending:
    """Disk, network, store or the runner itself failed: another attempt may fare better."""
    cause = vision_pb2.ATTEMPT_CAUSE_INFRASTRUCTURE
    return failed(cause, grpc.StatusCode.UNAVAILABLE, Reason.INFRASTRUCTURE, message)


def user_error(reason: str, message: str) -> Ending:
    """The job cannot succeed as it is."""
    return failed(vision_pb2.ATTEMPT_CAUSE_USER_ERROR, grpc.StatusCode.INVALID_ARGUMENT, reason, message)


def stopped(stop: Stop) -> Ending:
    """The attempt ended because it was asked to."""
    if stop.cause == vision_pb2.ATTEMPT_CAUSE_TIMEOUT:
        return failed(stop.cause, grpc.StatusCode.DEADLINE_EXCEEDED, Reason.RUN_TIMEOUT, stop.why)
    if stop.cause in (vision_pb2.ATTEMPT_CAUSE_DRAINED, vision_pb2.ATTEMPT_CAUSE_PREEMPTED):
        error = status_of(MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, stop.why))
        return Ending(vision_pb2.ATTEMPT_STATE_RELEASED, stop.cause, error)
    error = status_of(MeshError(grpc.StatusCode.CANCELLED, "JOB_CANCELLED", stop.why))
    return Ending(vision_pb2.ATTEMPT_STATE_CANCELLED, vision_pb2.ATTEMPT_CAUSE_CANCELLED, error)


def of_process(
    said: progress_pb2.AttemptEnded | None,
    exit_code: int | None,
    stop: Stop | None,
    *,
    memory_ran_out: bool,
    last_words: str,
) -> Ending:
    """The ending of an attempt whose job process has exited.

    `said` is its last event, `exit_code` as subprocess has it (negative: the signal; None: not known),
    `memory_ran_out` whether the kernel killed something of this runner for want of memory.
    """
    if said is not None and said.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED:
        return SUCCEEDED
    if stop is not None:
        return stopped(stop)
    if said is None or said.outcome not in _SAYABLE:
        return _died(exit_code, memory_ran_out, last_words)
    if said.outcome == vision_pb2.ATTEMPT_STATE_CANCELLED:
        # Nobody here asked for it: somebody stopped the process behind the agent's back.
        return _died(exit_code, memory_ran_out, said.error.message)
    return Ending(said.outcome, said.cause, said.error if said.HasField("error") else None)


def _died(exit_code: int | None, memory_ran_out: bool, last_words: str) -> Ending:
    killed = exit_code == -signal.SIGKILL  # from outside: what it said last has nothing to do with it
    words = f" The last it said: {last_words.strip()[:300]}" if last_words and not killed else ""
    if killed and memory_ran_out:
        message = (
            "The kernel killed the job process because memory ran out. Use a smaller batch_size, "
            f"image_size or model, or a runner with more memory.{words}"
        )
        cause = vision_pb2.ATTEMPT_CAUSE_OUT_OF_MEMORY
        return failed(cause, grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OUT_OF_MEMORY, message)
    message = f"The job process {_exit(exit_code)}. See the attempt's log lines.{words}"
    return failed(
        vision_pb2.ATTEMPT_CAUSE_PROCESS_DIED, grpc.StatusCode.INTERNAL, Reason.PROCESS_DIED, message
    )


def _exit(code: int | None) -> str:
    if code is None:
        return "was lost together with the process that started it"
    if code >= 0:
        return f"exited with code {code} without saying how it ended"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = "; that is what the kernel does when memory runs out" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def memory_kills() -> int:
    """How often the kernel has killed for want of memory in this control group, or on this machine."""
    for path, key in ((_memory_events(), "oom_kill"), (Path("/proc/vmstat"), "oom_kill")):
        try:
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == key:
                    return int(count)
        except (OSError, ValueError):
            continue
    return 0


def _memory_events() -> Path:
    try:
        group = _CGROUP.read_text().strip().rpartition("0::")[2].splitlines()[0]
    except (OSError, IndexError):
        group = "/"
    return Path("/sys/fs/cgroup") / group.lstrip("/") / "memory.events"
