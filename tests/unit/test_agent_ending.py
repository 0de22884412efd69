"""However a job process ends, the attempt ends for the right cause, with words that help."""

import signal
from datetime import timedelta

import pytest

from runners.agent.ending import SUCCEEDED, Stop, of_process
from visionmesh.errors import reason_of
from visionmesh.v1 import progress_pb2, vision_pb2

NO_GRACE = timedelta(0)
CANCEL = Stop(vision_pb2.ATTEMPT_CAUSE_CANCELLED, NO_GRACE, "The job was cancelled.")
DRAIN = Stop(vision_pb2.ATTEMPT_CAUSE_DRAINED, NO_GRACE, "The runner is being stopped.")
PREEMPT = Stop(vision_pb2.ATTEMPT_CAUSE_PREEMPTED, NO_GRACE, "A more urgent job needs the place.")
TIMEOUT = Stop.of_timeout(timedelta(seconds=90))
WELL = progress_pb2.AttemptEnded(outcome=vision_pb2.ATTEMPT_STATE_SUCCEEDED)
BADLY = progress_pb2.AttemptEnded(
    outcome=vision_pb2.ATTEMPT_STATE_FAILED, cause=vision_pb2.ATTEMPT_CAUSE_USER_ERROR
)
STOPPED = progress_pb2.AttemptEnded(
    outcome=vision_pb2.ATTEMPT_STATE_CANCELLED, cause=vision_pb2.ATTEMPT_CAUSE_CANCELLED
)
FOREIGN = progress_pb2.AttemptEnded(outcome=vision_pb2.ATTEMPT_STATE_LOST)


@pytest.mark.parametrize(
    ("said", "exit_code", "stop", "memory", "outcome", "cause", "reason", "words"),
    [
        pytest.param(WELL, 0, None, False, "SUCCEEDED", "UNSPECIFIED", "", "", id="well"),
        pytest.param(
            WELL, -9, None, False, "SUCCEEDED", "UNSPECIFIED", "", "", id="killed after it was done"
        ),
        pytest.param(WELL, 0, CANCEL, False, "SUCCEEDED", "UNSPECIFIED", "", "", id="done before the stop"),
        pytest.param(BADLY, 1, None, False, "FAILED", "USER_ERROR", "", "", id="it says why"),
        pytest.param(
            None, -9, None, False, "FAILED", "PROCESS_DIED", "PROCESS_DIED", "SIGKILL", id="SIGKILL"
        ),
        pytest.param(
            None, -9, None, True, "FAILED", "OUT_OF_MEMORY", "OUT_OF_MEMORY", "smaller", id="no memory"
        ),
        pytest.param(
            None, -11, None, True, "FAILED", "PROCESS_DIED", "PROCESS_DIED", "SIGSEGV", id="SIGSEGV"
        ),
        pytest.param(None, 7, None, False, "FAILED", "PROCESS_DIED", "PROCESS_DIED", "code 7", id="exit"),
        pytest.param(
            None, 0, None, False, "FAILED", "PROCESS_DIED", "PROCESS_DIED", "code 0", id="silent exit"
        ),
        pytest.param(
            None, None, None, False, "FAILED", "PROCESS_DIED", "PROCESS_DIED", "lost", id="zygote died"
        ),
        pytest.param(
            FOREIGN, 0, None, False, "FAILED", "PROCESS_DIED", "PROCESS_DIED", "0", id="not its to say"
        ),
        pytest.param(
            STOPPED, 3, None, False, "FAILED", "PROCESS_DIED", "PROCESS_DIED", "3", id="unasked stop"
        ),
        pytest.param(STOPPED, 3, CANCEL, False, "CANCELLED", "CANCELLED", "JOB_CANCELLED", "", id="cancel"),
        pytest.param(
            None, -9, CANCEL, False, "CANCELLED", "CANCELLED", "JOB_CANCELLED", "", id="after grace"
        ),
        pytest.param(STOPPED, 3, DRAIN, False, "RELEASED", "DRAINED", "UNAVAILABLE", "stopped", id="drain"),
        pytest.param(
            STOPPED, 3, PREEMPT, False, "RELEASED", "PREEMPTED", "UNAVAILABLE", "urgent", id="preempt"
        ),
        pytest.param(STOPPED, 3, TIMEOUT, False, "FAILED", "TIMEOUT", "RUN_TIMEOUT", "90 s", id="timeout"),
    ],
)
def test_endings(said, exit_code, stop, memory, outcome, cause, reason, words):
    ended = of_process(said, exit_code, stop, memory_ran_out=memory, last_words="")
    assert vision_pb2.AttemptState.Name(ended.outcome) == f"ATTEMPT_STATE_{outcome}"
    assert vision_pb2.AttemptCause.Name(ended.cause) == f"ATTEMPT_CAUSE_{cause}"
    assert (reason_of(ended.error) if ended.error else "") == reason
    assert words in (ended.error.message if ended.error else "")


def test_the_last_line_that_was_printed_is_passed_on():
    ended = of_process(None, -signal.SIGABRT, None, memory_ran_out=False, last_words="double free")
    assert "SIGABRT" in ended.error.message
    assert "double free" in ended.error.message


def test_the_message_carries_the_number_of_results():
    assert SUCCEEDED.message(12).results_number == 12
