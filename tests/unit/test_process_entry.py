"""The life of a job process with a framework that does as it is told."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.rpc import error_details_pb2

from runners.framework import Framework, FrameworkNotFound, load
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run_job
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped, UserError
from runners.process.framing import Decoder, encode
from visionmesh.v1 import process_pb2, runner_pb2, vision_pb2

Work = Callable[[JobEnvironment, Emitter, Commands], None]


class Scripted(Framework):
    name = "scripted"
    packages = ("protobuf",)

    def __init__(self, work: Work) -> None:
        self.work = work

    def manifest(self) -> runner_pb2.FrameworkManifest:
        known = runner_pb2.Hyperparameter(name="mosaic", type=runner_pb2.HYPERPARAMETER_TYPE_FLOAT)
        return runner_pb2.FrameworkManifest(framework=self.name, hyperparameters=[known])

    def preload(self) -> None:
        raise AssertionError("only a zygote preloads")

    def device(self, environment: JobEnvironment) -> str:
        if environment.device == "cuda:9":
            raise UserError("There is no such GPU.")
        return "cpu"

    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        self.work(environment, emitter, commands)


@dataclass
class Outcome:
    exit_code: int
    events: list[process_pb2.ProcessEvent]

    @property
    def ended(self) -> object:
        return self.events[-1].ended

    @property
    def reason(self) -> str:
        info = error_details_pb2.ErrorInfo()
        assert self.events[-1].ended.error.details[0].Unpack(info)
        assert info.domain == "visionmesh"
        return str(info.reason)


START = process_pb2.ProcessCommand(start=process_pb2.Start())
STOP = process_pb2.ProcessCommand(stop=process_pb2.Stop(reason="Cancelled by Ada."))


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """The job process takes SIGINT and SIGTERM for itself; pytest wants its own back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def pipe() -> tuple[int, int]:
    """Both ends of the pipe that carries commands."""
    return os.pipe()


@pytest.fixture
def send(pipe: tuple[int, int]) -> Callable[[process_pb2.ProcessCommand], None]:
    """Sends a command while the job runs."""

    def write(command: process_pb2.ProcessCommand) -> None:
        os.write(pipe[1], encode(command))

    return write


@pytest.fixture
def run(tmp_path: Path, pipe: tuple[int, int]) -> Callable[..., Outcome]:
    def start(
        work: Work, *commands: process_pb2.ProcessCommand, close: bool = False, **variables: str
    ) -> Outcome:
        events_reader, events_writer = os.pipe()
        commands_reader, commands_writer = pipe
        os.write(commands_writer, b"".join(encode(command) for command in commands))
        if close:
            os.close(commands_writer)
        environ = {
            "OUTPUT_PATH": str(tmp_path / "out"),
            "EVENTS_FD": str(events_writer),
            "COMMANDS_FD": str(commands_reader),
            **variables,
        }
        exit_code = run_job(Scripted(work), environ)
        os.close(events_writer)
        with os.fdopen(events_reader, "rb") as stream:
            events = Decoder(process_pb2.ProcessEvent).feed(stream.read())
        os.close(commands_reader)
        if not close:
            os.close(commands_writer)
        return Outcome(exit_code, events)

    return start


def idle(environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
    commands.poll()


def raising(error: BaseException) -> Work:
    def work(environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        raise error

    return work


def test_a_job_starts_runs_and_ends(run: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = run(idle, START, SEED="7")
    started = outcome.events[0].progress.attempt_started
    assert started.pid == os.getpid()
    assert started.seed == 7
    assert started.device == "cpu"
    assert set(started.package_versions) == {"python", "protobuf"}
    assert started.hardware
    assert outcome.ended.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED  # type: ignore[attr-defined]
    assert outcome.exit_code == 0
    assert (tmp_path / "out").is_dir()


def test_without_a_start_nothing_is_said(run: Callable[..., Outcome]) -> None:
    outcome = run(raising(AssertionError("must not run")), close=True)
    assert outcome.events == []
    assert outcome.exit_code == 1


def test_a_stop_before_the_start_ends_it(run: Callable[..., Outcome]) -> None:
    outcome = run(raising(AssertionError("must not run")), STOP)
    assert [event.WhichOneof("event") for event in outcome.events] == ["ended"]
    assert outcome.events[0].ended.outcome == vision_pb2.ATTEMPT_STATE_CANCELLED


def test_a_stop_is_seen_at_the_next_poll_and_every_one_after(
    run: Callable[..., Outcome], send: Callable[[process_pb2.ProcessCommand], None]
) -> None:
    seen = []

    def work(environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        commands.poll()
        send(STOP)
        for _ in range(2):
            try:
                commands.poll()
            except Exception:  # as frameworks do
                seen.append("swallowed")
            except Stopped:
                seen.append("stopped")
        commands.poll()

    outcome = run(work, START)
    assert seen == ["stopped", "stopped"]
    assert outcome.events[-1].ended.outcome == vision_pb2.ATTEMPT_STATE_CANCELLED
    assert outcome.events[-1].ended.cause == vision_pb2.ATTEMPT_CAUSE_CANCELLED
    assert outcome.events[-1].ended.error.message == "Cancelled by Ada."
    assert outcome.exit_code == 3


def test_an_agent_that_is_gone_stops_the_job(run: Callable[..., Outcome]) -> None:
    outcome = run(idle, START, close=True)
    assert outcome.events[-1].ended.outcome == vision_pb2.ATTEMPT_STATE_CANCELLED


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (UserError("No."), vision_pb2.ATTEMPT_CAUSE_USER_ERROR, "USER_ERROR"),
        (UserError("No.", reason="DATASET_INVALID"), vision_pb2.ATTEMPT_CAUSE_USER_ERROR, "DATASET_INVALID"),
        (MemoryError(), vision_pb2.ATTEMPT_CAUSE_OUT_OF_MEMORY, "OUT_OF_MEMORY"),
        (OutOfMemoryError("CUDA"), vision_pb2.ATTEMPT_CAUSE_OUT_OF_MEMORY, "OUT_OF_MEMORY"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
            vision_pb2.ATTEMPT_CAUSE_OUT_OF_MEMORY,
            "OUT_OF_MEMORY",
        ),
        (ZeroDivisionError("division by zero"), vision_pb2.ATTEMPT_CAUSE_FRAMEWORK_ERROR, "FRAMEWORK_ERROR"),
    ],
)
def test_each_error_has_its_cause(
    run: Callable[..., Outcome], error: BaseException, cause: int, reason: str
) -> None:
    outcome = run(raising(error), START)
    assert outcome.events[-1].ended.outcome == vision_pb2.ATTEMPT_STATE_FAILED
    assert outcome.events[-1].ended.cause == cause
    assert outcome.reason == reason
    assert outcome.exit_code == 1


def test_a_framework_error_leaves_its_traceback_in_the_log(run: Callable[..., Outcome]) -> None:
    outcome = run(raising(ZeroDivisionError("division by zero")), START)
    lines = [event.progress.log_line.message for event in outcome.events[1:-1]]
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError: division by zero" in outcome.events[-1].ended.error.message


def test_violations_travel_as_bad_request(run: Callable[..., Outcome]) -> None:
    error = UserError("One label is wrong.", violations=[("labels/train/7.txt:3", "class 9 of 3")])
    outcome = run(raising(error), START)
    bad = error_details_pb2.BadRequest()
    assert outcome.events[-1].ended.error.details[1].Unpack(bad)
    assert bad.field_violations[0].field == "labels/train/7.txt:3"


def test_a_wrong_variable_is_told_to_the_agent(run: Callable[..., Outcome]) -> None:
    outcome = run(idle, START, EPOCHS="0")
    assert "EPOCHS is '0'" in outcome.events[-1].ended.error.message
    assert outcome.events[-1].ended.cause == vision_pb2.ATTEMPT_CAUSE_USER_ERROR


def test_a_device_that_is_not_there_is_refused_after_the_start(run: Callable[..., Outcome]) -> None:
    outcome = run(idle, START, DEVICE="cuda:9")
    assert outcome.events[0].progress.HasField("attempt_started")
    assert outcome.events[-1].ended.error.message == "There is no such GPU."


def test_an_unknown_hyperparameter_is_refused_with_the_nearest(run: Callable[..., Outcome]) -> None:
    outcome = run(idle, START, HYPERPARAMETERS='{"mosaik": 1}')
    assert outcome.reason == "UNKNOWN_HYPERPARAMETER"
    assert "Did you mean 'mosaic'" in outcome.events[-1].ended.error.message


def test_nobody_left_to_tell_ends_quietly(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environ = {"EVENTS_FD": str(writer), "OUTPUT_PATH": str(tmp_path)}
    assert run_job(Scripted(idle), environ) == 1
    os.close(writer)


def test_by_hand_a_signal_is_a_stop(tmp_path: Path) -> None:
    commands = Commands(None)
    assert commands.wait_for_start()
    commands.poll()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Stopped, match="SIGINT"):
        commands.poll()


def test_a_framework_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(FrameworkNotFound, match=r"'caffe'.*ultralytics"):
        load("caffe")


def test_ultralytics_is_found_by_its_entry_point() -> None:
    assert load("ultralytics").manifest().framework == "ultralytics"


def test_prompts_are_refused_where_no_model_takes_any(run: Callable[..., Outcome]) -> None:
    outcome = run(lambda *_: None, START, PROMPTS='[{"box": {"x_max": 5, "y_max": 5}}]')
    assert outcome.reason == "UNSUPPORTED"
    assert outcome.exit_code != 0
