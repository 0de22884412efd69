"""Which jobs and images a spec names."""

from dataclasses import dataclass

from visionmesh import names
from visionmesh.v1 import job_pb2

CHECKPOINT_FIELDS = ("checkpoint", "embedding_checkpoint")


@dataclass(frozen=True)
class References:
    """What a spec names."""

    jobs: tuple[str, ...]
    """Jobs whose artifacts it reads: they must have succeeded first."""


def references(job: job_pb2.Job) -> References:
    """The jobs whose artifacts `job` reads."""
    kind = job.WhichOneof("spec")
    if kind is None:
        return References(())
    spec = getattr(job, kind)
    specs = [spec, spec.detection] if kind == "embed_faces" else [spec]
    named = [getattr(part, field, "") for part in specs for field in CHECKPOINT_FIELDS]
    makers = {names.job_name(names.job_id(name)) for name in named if names.is_artifact(name)}
    return References(tuple(sorted(makers)))


def images_of(job: job_pb2.Job) -> job_pb2.ImageSource | None:
    """Where the images of a job come from; None if it looks at none."""
    spec = getattr(job, job.WhichOneof("spec") or "train")
    return getattr(spec, "images", None) or getattr(getattr(spec, "detection", None), "images", None)
