"""What is refused of runners: their control stream, their numbered streams, their files."""

from typing import Any

import grpc
from refusal_world import (
    Table,
    aborted,
    bad,
    damaged,
    denied,
    gone,
    past,
    raw,
    sends,
    too_much,
    updates,
    wrong_state,
)
from runner_double import PATIENCE, ended, line, refusal

from visionmesh.errors import Reason
from visionmesh.v1 import result_pb2, runner_pb2, runner_pb2_grpc

_BAD, _OLD = Reason.INVALID_ARGUMENT, Reason.ATTEMPT_SUPERSEDED


def connects(*requests):
    """A control stream, from its first request on."""

    async def ask(world):
        call = world.mesh.runners.Connect(timeout=PATIENCE)
        try:
            for request in requests:
                await call.write(request)
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            raise refusal(error) from None
        finally:
            call.cancel()

    return ask


def register(**fields):
    """A runner of its own framework, but for `fields`."""
    known: dict[str, Any] = {
        "runner_id": "refused",
        "incarnation": "incarnation-1",
        "capacity": runner_pb2.RunnerCapacity(slots=1, cpus=1),
        "manifest": runner_pb2.FrameworkManifest(framework="refused"),
    }
    return runner_pb2.ConnectRequest(register=runner_pb2.Register(**(known | fields)))


async def replaced(world):
    """A runner whose id another process takes."""
    async with (
        world.mesh.runner("replaced", runner_id="replaced") as first,
        world.mesh.runner("replaced", runner_id="replaced", incarnation="incarnation-2"),
    ):
        await first.beat()
        raise await first.ended_with()


NOWHERE = runner_pb2.AttemptRef(job="no-job", attempt=1)
REPLY = runner_pb2.AssignmentReply(job="no-job", attempt=1, accepted=True)

CONTROL: Table = {
    "first message that does not register": bad(
        connects(runner_pb2.ConnectRequest(heartbeat=runner_pb2.Heartbeat())),
        _BAD, "register", "the first message of Connect", "must register",
    ),
    "runner id in capitals": bad(
        connects(register(runner_id="Bad Id")), _BAD, "register.runner_id", "got 'Bad Id'",
        "must be 1 to 63 of a-z",
    ),
    "runner without capacity": bad(
        connects(register(capacity=None)), _BAD, "register.capacity", "register.capacity", "required",
    ),
    "runner without a manifest": bad(
        connects(register(manifest=None)), _BAD, "register.manifest", "register.manifest", "required",
    ),
    "runner that holds an attempt of no job": bad(
        connects(register(attempts=[NOWHERE])), _BAD, "job", "got 'no-job'", "must have the form jobs/{job}",
    ),
    "heartbeat for an attempt of no job": bad(
        connects(register(), runner_pb2.ConnectRequest(heartbeat=runner_pb2.Heartbeat(attempts=[NOWHERE]))),
        _BAD, "job", "got 'no-job'", "must have the form jobs/{job}",
    ),
    "reply for an attempt of no job": bad(
        connects(register(), runner_pb2.ConnectRequest(assignment_reply=REPLY)),
        _BAD, "job", "got 'no-job'", "must have the form jobs/{job}",
    ),
    "runner that another process has replaced": aborted(
        replaced, Reason.RUNNER_SUPERSEDED, "", "Another process has registered as runners/replaced",
        "Give each runner an id of its own",
    ),
}  # fmt: skip


def results(*items, attempt=1):
    """Results of the running job."""

    async def ask(world):
        stream = await world.double.results(world.running, attempt)
        try:
            await stream.send(*[item(world) if callable(item) else item for item in items])
        finally:
            stream.close()

    return ask


def at(uri, name="best"):
    """An artifact of the running job that lies at `uri`."""
    return lambda world: result_pb2.ResultItem(
        artifact=result_pb2.Artifact(
            name=f"{world.running}/artifacts/{name}",
            uri=uri.format(store=f"file://{world.mesh.folder}/artifacts", other=world.finished.split("/")[1]),
            sha256="0" * 64,
        )
    )


ELSEWHERE = "Publish the uri that StoreObject returned"

NUMBERED: Table = {
    "progress of no job": bad(
        updates(job="train-1"), _BAD, "job", "must name job", "jobs/{job}",
    ),
    "progress of attempt 0": bad(updates(attempt=0), _BAD, "job", "must name job", "attempt (from 1)"),
    "progress of an absent job": gone(updates(job="jobs/absent"), "no job 'jobs/absent'"),
    "progress of a superseded attempt": aborted(
        updates(line("late"), attempt=7), _OLD, "", "Attempt 7 of jobs/", "Kill its job process",
    ),
    "results of a superseded attempt": aborted(
        results(attempt=7), _OLD, "", "Attempt 7 of jobs/", "Kill its job process",
    ),
    "gap in the numbers": past(
        updates(line("ahead"), first=5), Reason.SEQUENCE_GAP, "", "came where", "Go on from",
    ),
    "numbers below 1": bad(
        updates(line("zero"), first=-10**6), _BAD, "first_number", "numbers begin at 1",
        "at most 1000 messages",
    ),
    "too many messages at once": bad(
        updates(*[line("much")] * 1001), _BAD, "first_number", "numbers begin at 1", "at most 1000 messages",
    ),
    "end of an attempt whose results are missing": wrong_state(
        updates(ended(results_number=99)),
        Reason.RESULTS_OUTSTANDING, "", "speaks of 99 results", "Send the rest on PublishResults",
    ),
    "progress above the limit": too_much(
        updates(line("x" * 2**25)), Reason.MESSAGE_TOO_LARGE, "", "The request takes", "Send less at once",
    ),
    "artifact of the scheduler's machine": bad(
        results(at("file:///etc/passwd")), Reason.BAD_URI, "items.artifact.uri", "'file:///etc/passwd'",
        ELSEWHERE,
    ),
    "artifact that leads out": bad(
        results(at("{store}/../visionmesh.db")), Reason.BAD_URI, "items.artifact.uri", "was not stored by",
        ELSEWHERE,
    ),
    "artifact of another job": bad(
        results(at("{store}/attempts/{other}/1/notes.txt")),
        Reason.BAD_URI, "items.artifact.uri", "was not stored by this attempt", ELSEWHERE,
    ),
}  # fmt: skip


def store(path="a.bin", data=b"data", attempt=1, job="", **header):
    """StoreObject of the running job."""
    return lambda world: world.double.store(job or world.running, attempt, path, data, **header)


def fetch(*uris, attempt=1, job=""):
    """FetchObject of the running job."""
    return lambda world: world.double.fetch(job or world.running, attempt, *uris)


def pieces(*requests):
    """StoreObject with these requests."""
    return sends(lambda channel: runner_pb2_grpc.RunnerServiceStub(channel).StoreObject, *requests)


FILES: Table = {
    "file without a header": bad(
        pieces(runner_pb2.StoreObjectRequest(chunk=b"x")),
        _BAD, "header", "the first message of StoreObject", "is the header",
    ),
    "file of no attempt": bad(
        pieces(runner_pb2.StoreObjectRequest(header=runner_pb2.StoreObjectHeader())),
        _BAD, "header.job", "got ''", "must have the form jobs/{job}",
    ),
    "file of an absent job": gone(store(job="jobs/absent"), "no job 'jobs/absent'"),
    "file of a superseded attempt": aborted(
        store(attempt=7), _OLD, "", "Attempt 7 of jobs/", "Kill its job process",
    ),
    "file that leads out of its attempt": bad(
        store("../escape.pt"), Reason.BAD_URI, "header.path", "'..'", "Choose another path",
    ),
    "file that leads out further on": bad(
        store("a/../../b"), Reason.BAD_URI, "header.path", "'..'", "Choose another path",
    ),
    "file with an absolute path": bad(
        store("/etc/passwd"), _BAD, "header.path", "got '/etc/passwd'", "no / at the ends",
    ),
    "file with a backslash": bad(
        store("a\\b"), _BAD, "header.path", "got 'a", "must be a path of letters",
    ),
    "file with NUL": bad(store("a\0b"), _BAD, "header.path", "got 'a", "must be a path of letters"),
    "file with a segment that is too long": bad(
        store("x" * 300), Reason.BAD_URI, "header.path", "more than 255 bytes", "Choose another path",
    ),
    "file of a negative size": bad(
        store(size_bytes=-1), _BAD, "header.size_bytes", "got -1", "must be greater than or equal to 0",
    ),
    "file of another size": damaged(
        store(size_bytes=99), Reason.DATA_LOSS, "", "99 were announced", "send them again",
    ),
    "file of another digest": damaged(
        store(sha256="0" * 64), Reason.DATA_LOSS, "", "was announced", "send them again",
    ),
    "inputs of an absent job": gone(fetch("file:///x", job="jobs/absent"), "no job 'jobs/absent'"),
    "inputs of a superseded attempt": aborted(
        fetch("file:///x", attempt=7), _OLD, "", "Attempt 7 of jobs/", "Kill its job process",
    ),
    "no inputs": bad(fetch(), _BAD, "uris", "uris", "must contain at least 1"),
    "what is no input of the job": denied(
        fetch("file:///etc/passwd"),
        Reason.PERMISSION_DENIED, "", "'file:///etc/passwd' is not an input",
        "Fetch only what the assignment names",
    ),
}  # fmt: skip

_SERVICES = ("job", "progress", "result", "runner", "dataset")


def _undecodable():
    from importlib import import_module

    for name in _SERVICES:
        module = import_module(f"visionmesh.v1.{name}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                kinds = ("unary", "stream")
                yield (
                    f"{service.name}/{method.name}",
                    f"{kinds[method.client_streaming]}_{kinds[method.server_streaming]}",
                )


UNDECODABLE: Table = {
    f"undecodable {method}": bad(
        raw(method, kind, b"\xff\xff\xff"),
        _BAD,
        "",
        "cannot be decoded",
        "Generate the client from this server's protos",
    )
    for method, kind in _undecodable()
}
