"""How job processes live: what they start from, what they say, and what they leave behind."""

import protovalidate

from runners.framework_kit.jobs import Jobs
from runners.framework_kit.play import Played, digest
from runners.framework_kit.rules import Broken, expect
from visionmesh.v1 import progress_pb2, result_pb2, vision_pb2

_UPDATES = frozenset(
    {
        *("stage_changed", "epoch_completed", "batch_progress", "images_progress"),
        *("log_line", "attempt_started"),
    }
)
_STAGES = {
    vision_pb2.STAGE_STARTING: 0,
    vision_pb2.STAGE_LOADING_MODEL: 1,
    vision_pb2.STAGE_TRAINING: 2,
    vision_pb2.STAGE_VALIDATING: 3,
    vision_pb2.STAGE_PREDICTING: 3,
    vision_pb2.STAGE_FINISHING: 4,
}
_WORK = {"train": vision_pb2.STAGE_TRAINING, "validate": vision_pb2.STAGE_VALIDATING}


def can_be_forked(jobs: Jobs) -> str:
    """F5."""
    expect(jobs.can_fork(), "F5", f"{jobs.unforkable}. Its error stands above, on standard error")
    return "a zygote is ready"


def good_jobs_succeed(jobs: Jobs) -> str:
    """F6."""
    return ", ".join(played.environment.kind for played in jobs.good())


def forked_as_anew(jobs: Jobs) -> str:
    """F7."""
    jobs.good()
    failed = jobs.fork_failure()
    expect(failed is None, "F7", f"only a fresh process succeeds; a forked one: {failed and failed.story()}")
    forked, anew = _kinds(jobs.good()[0]), _kinds(jobs.anew())
    expect(forked == anew, "F7", f"a forked process tells {forked}, a fresh one {anew}")
    return " ".join(forked)


def _kinds(played: Played) -> list[str]:
    """Kinds of what was told, each once, but for what depends on time."""
    names = (
        event.result.WhichOneof("item") or event.progress.WhichOneof("update") for event in played.events
    )
    return list(dict.fromkeys(name for name in names if name not in {None, "batch_progress", "log_line"}))


def ends_clean(jobs: Jobs) -> str:
    """F8."""
    for played in _all(jobs):
        kind = played.environment.kind
        expect(played.end is not None, "F8", f"{kind}: run did not return; {played.story()}")
        expect(not played.lingered, "F8", f"{kind}: the process did not end after its last event")
        expect(not played.strays, "F8", f"{kind}: it leaves processes: {'; '.join(played.strays)}")
        threads = played.facts.get("threads", [])
        expect(not threads, "F8", f"{kind}: it leaves threads: {', '.join(threads)}")
    return "no process, no thread"


def says_what_it_may(jobs: Jobs) -> str:
    """F9."""
    count = 0
    for played in _all(jobs):
        for event in played.events:
            kind = event.WhichOneof("event")
            if kind == "progress":
                _check_message(event.progress, event.progress.WhichOneof("update"), _UPDATES)
            elif kind == "result":
                item = event.result.WhichOneof("item")
                _check_message(event.result, item, {"prediction", "training", "validation", "inference"})
            expect(kind, "F9", "it sends an event with nothing in it")
            count += 1
    return f"{count} events"


def _check_message(
    message: progress_pb2.ProgressUpdate | result_pb2.ResultItem,
    kind: str | None,
    allowed: set[str] | frozenset[str],
) -> None:
    expect(kind in allowed, "F9", f"it says {kind}, which is not for a job process to say")
    try:
        protovalidate.validate(message)
    except protovalidate.ValidationError as error:
        raise Broken("F9", f"what it says of {kind} is not valid: {error}") from error


def stages_in_order(jobs: Jobs) -> str:
    """F14."""
    for played in _all(jobs):
        kind = played.environment.kind
        told = [update.stage for update in played.updates("stage_changed")]
        names = [vision_pb2.Stage.Name(stage).removeprefix("STAGE_") for stage in told]
        strange = [name for stage, name in zip(told, names, strict=True) if stage not in _STAGES]
        expect(not strange, "F14", f"{kind}: {', '.join(strange)} is not for a job process to say")
        places = [_STAGES[stage] for stage in told]
        expect(places == sorted(places), "F14", f"{kind}: its stages go {' > '.join(names)}")
        work = _WORK.get(kind, vision_pb2.STAGE_PREDICTING)
        wanted = vision_pb2.Stage.Name(work).removeprefix("STAGE_")
        expect(work in told, "F14", f"{kind}: it never says {wanted}, only {', '.join(names) or 'nothing'}")
        expect(_begins_before(played, work), "F14", f"{kind}: the first result comes before {wanted}")
    return "in order"


def _begins_before(played: Played, work: "vision_pb2.Stage.ValueType") -> bool:
    for event in played.events:
        if event.progress.stage_changed.stage == work:
            return True
        if event.HasField("result") or event.progress.HasField("epoch_completed"):
            return False
    return False


def files_are_whole(jobs: Jobs) -> str:
    """F18."""
    count = 0
    for played in _all(jobs):
        for kept in played.files:
            name = kept.file.path
            there = f"{name} is announced, and is no file below OUTPUT_PATH"
            expect(kept.sha256, "F18", there)
            after = "write to another file and replace the old one by it, as the agent may be sending it"
            expect(
                digest(kept.path) == kept.sha256,
                "F18",
                f"{name} was written to when it was announced; {after}",
            )
            count += 1
    return f"{count} files"


def leaves_nothing(jobs: Jobs) -> str:
    """F30."""
    for played in _all(jobs):
        kind, paths = played.environment.kind, ", ".join(played.written[:5])
        expect(not played.written, "F30", f"{kind}: changed or left outside of OUTPUT_PATH: {paths}")
    return "everything else is as it was"


def asks_no_network(jobs: Jobs) -> str:
    """F31."""
    for played in _all(jobs):
        asked = sorted(set(played.facts.get("network", [])))
        expect(not asked, "F31", f"{played.environment.kind}: it asked for {', '.join(asked)}")
    return "nothing"


def _all(jobs: Jobs) -> list[Played]:
    """Good jobs, and a training that was stopped."""
    return jobs.good() + ([jobs.stopped()] if "train" in jobs.manifest.kinds else [])
