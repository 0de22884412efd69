"""What a framework must refuse, and how: as the user's error, in words."""

from collections.abc import Mapping
from typing import Any

from google.rpc import error_details_pb2

from runners.framework_kit.jobs import Jobs
from runners.framework_kit.play import Played
from runners.framework_kit.rules import expect
from visionmesh.v1 import runner_pb2, vision_pb2

_UNKNOWN = "no-such-thing-here"
_FEWEST_WORDS = 4
_NUMBERS = (runner_pb2.HYPERPARAMETER_TYPE_FLOAT, runner_pb2.HYPERPARAMETER_TYPE_INT)


def unknown_model(jobs: Jobs) -> str:
    """F10."""
    played = jobs.refused("unknown-model", jobs.training("unknown-model", model_name=_UNKNOWN))
    return _refused("F10", played, f"MODEL_NAME={_UNKNOWN}", reason="UNKNOWN_MODEL", names=_UNKNOWN)


def bad_hyperparameter(jobs: Jobs) -> str:
    """F11."""
    kind = jobs.kinds[0]
    unknown = jobs.working(kind, "unknown-hyperparameter", hyperparameters={_UNKNOWN: 1})
    _refused(
        "F11",
        jobs.refused("unknown-hyperparameter", unknown),
        f"hyperparameter {_UNKNOWN}",
        reason="UNKNOWN_HYPERPARAMETER",
        names=_UNKNOWN,
    )
    outside = _outside(jobs.manifest, kind)
    if not outside:
        return "an unknown one is refused; none has a range"
    name = next(iter(outside))
    environment = jobs.working(kind, "bad-hyperparameter", hyperparameters=outside)
    played = jobs.refused("bad-hyperparameter", environment)
    return _refused("F11", played, f"hyperparameters {outside}", reason="BAD_HYPERPARAMETER", names=name)


def no_dataset(jobs: Jobs) -> str:
    """F12."""
    kind = "train" if "train" in jobs.manifest.kinds else "validate"
    absent = jobs.folder / "absent"
    played = jobs.refused("no-dataset", jobs.working(kind, "no-dataset", dataset_path=absent))
    return _refused("F12", played, f"DATASET_PATH={absent}, which is not there")


def no_checkpoint(jobs: Jobs) -> str:
    """F13."""
    said, absent, damaged = "", jobs.folder / "absent.pt", jobs.folder / "damaged.pt"
    damaged.write_bytes(b"this is no checkpoint " * 50)
    for kind in jobs.kinds:
        for path, what in ((absent, "which is not there"), (damaged, "a file of plain text")):
            name = f"{path.stem}-checkpoint-{kind}"
            played = jobs.refused(name, jobs.working(kind, name, checkpoint_path=path))
            said = _refused("F13", played, f"CHECKPOINT_PATH={path}, {what}, to {kind}")
    return said


def _outside(manifest: runner_pb2.FrameworkManifest, kind: str) -> Mapping[str, Any]:
    """One hyperparameter with a number outside of its range; empty if none has one."""
    for item in manifest.hyperparameters:
        if item.type not in _NUMBERS or (item.kinds and kind not in item.kinds):
            continue
        if item.HasField("max"):
            return {item.name: item.max + 1}
        if item.HasField("min"):
            return {item.name: item.min - 1}
    return {}


def _refused(rule: str, played: Played, given: str, *, reason: str = "", names: str = "") -> str:
    end = played.end
    expect(end is not None and not played.succeeded, rule, f"given {given}, {played.story()}")
    assert end is not None  # noqa: S101 - expected above
    told = end.cause == vision_pb2.ATTEMPT_CAUSE_USER_ERROR
    cause = vision_pb2.AttemptCause.Name(end.cause).removeprefix("ATTEMPT_CAUSE_")
    expect(told, rule, f"given {given}, it fails as {cause}, not as USER_ERROR. {played.story()}")
    words = str(end.error.message)
    expect(len(words.split()) >= _FEWEST_WORDS, rule, f"given {given}, it says no more than {words!r}")
    expect(names in words, rule, f"given {given}, the message does not name it: {words}")
    found = _reason(played)
    expect(not reason or found == reason, rule, f"given {given}, the reason is {found}, not {reason}")
    return words


def _reason(played: Played) -> str:
    info = error_details_pb2.ErrorInfo()
    if played.end is not None:
        for detail in played.end.error.details:
            if detail.Unpack(info):
                return str(info.reason)
    return ""
