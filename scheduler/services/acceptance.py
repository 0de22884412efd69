"""Everything that can be known to be wrong with a job before any runner touches it."""

from scheduler.admission import check_against_manifest, references, with_defaults
from scheduler.admission.defaults import framework_of
from scheduler.inputs import InputResolver, Inputs
from scheduler.oversize import too_large
from scheduler.store import datasets, history, runners
from scheduler.store.engine import Connection
from scheduler.store.store import Store
from visionmesh import names
from visionmesh.datasets.report import SERVES
from visionmesh.errors import Reason, invalid, invalid_fields
from visionmesh.limits import MAX_JOB_BYTES
from visionmesh.v1 import dataset_pb2, job_pb2, vision_pb2


class Acceptance:
    """Refuses jobs that cannot succeed."""

    def __init__(self, store: Store, resolver: InputResolver) -> None:
        self._store, self._resolver = store, resolver

    async def completed(self, job: job_pb2.Job) -> job_pb2.Job:
        """A copy of `job` with its defaults filled in, as the newest runner of its framework has them."""
        async with self._store.read() as connection:
            found = await runners.manifests(connection, framework_of(job))
        return with_defaults(job, found[0] if found else None)

    async def check(self, job: job_pb2.Job) -> Inputs:
        """What the job reads.

        Raises INVALID_ARGUMENT if the job names what does not exist or what its framework refuses, and
        MESSAGE_TOO_LARGE if it is too large itself, or reads so many images that no runner can be told.
        """
        if job.ByteSize() > MAX_JOB_BYTES:
            instead = "Upload the images as a zip, or make a dataset of them, and name that."
            raise too_large("job", "The job", job.ByteSize(), MAX_JOB_BYTES, instead)
        if job.HasField("embed_faces") and not job.embed_faces.embedding_checkpoint:
            text = (
                "name what turns a face into a vector: a training's best checkpoint, or an uploaded file. "
                "Vectors of random weights say nothing"
            )
            raise invalid(Reason.CHECKPOINT_NOT_FOUND, "job.embed_faces.embedding_checkpoint", text)
        async with self._store.read() as connection:
            await self._check_framework(connection, job)
        inputs = await self._resolver.resolve(job, is_new=True)
        async with self._store.read() as connection:
            await _check_dependencies(connection, job)
            await _check_dataset(connection, job)
        return inputs

    async def await_makers(self, job: job_pb2.Job) -> None:
        """Let `job` depend on the jobs whose artifacts it reads, unless they have ended.

        What an ended job has left is there, or never will be: `check` says which. So a checkpoint that
        a cancelled training left behind can be used.
        """
        makers = set(references(job).jobs)
        async with self._store.read() as connection:
            for maker in sorted(makers):
                position = await history.position(connection, names.job_id(maker))
                if position is not None and position.ended:
                    makers.discard(maker)
        depends_on = sorted({*job.depends_on, *makers})
        del job.depends_on[:]
        job.depends_on.extend(depends_on)

    async def _check_framework(self, connection: Connection, job: job_pb2.Job) -> None:
        """With no manifest known the job is accepted; its runner will check it."""
        manifests = await runners.manifests(connection, job.framework)
        if not manifests:
            return
        found = [check_against_manifest(job, manifest) for manifest in manifests]
        wrong = min(found, key=len)  # one runner that would take it is enough
        if wrong:
            raise invalid_fields(wrong[0][0], [violation for _reason, violation in wrong])


async def _check_dependencies(connection: Connection, job: job_pb2.Job) -> None:
    for name in job.depends_on:
        if await history.position(connection, names.job_id(name)) is None:
            text = f"there is no job {name!r} to depend on. List what there is, and check the spelling."
            raise invalid(Reason.DEPENDENCY_NOT_FOUND, "job.depends_on", text)


async def _check_dataset(connection: Connection, job: job_pb2.Job) -> None:
    """Training and validation need labels for their task, in the splits that they read."""
    kind = job.WhichOneof("spec")
    if kind not in {"train", "validate"}:
        return
    name = job.train.dataset if kind == "train" else job.validate.dataset
    needed = ("train", "val") if kind == "train" else (job.validate.split,)
    dataset = await datasets.get(connection, names.dataset_id(name))
    if dataset is None:
        return
    _check_task(dataset, kind, getattr(job, kind).task)
    instances = {split.name: split.instances for split in dataset.splits}
    for split in needed:
        if not instances.get(split):
            have = ", ".join(f"{s.name} ({s.images} images, {s.instances} objects)" for s in dataset.splits)
            text = (
                f"{name} has no labelled object in its split {split!r}; it has {have or 'no images'}. "
                f"Add labels to that split, create the dataset again, and name that one."
            )
            raise invalid(Reason.DATASET_UNLABELLED, f"job.{kind}.dataset", text)


def _check_task(dataset: dataset_pb2.Dataset, kind: str, task: int) -> None:
    """Labels are good for their task and for what follows from it: boxes from outlines, say.

    Boxes have classes too: what classify makes of them, the framework decides.
    """
    if not task or not dataset.task or task == vision_pb2.TASK_CLASSIFY:
        return
    asked, found = _word(task), _word(dataset.task)
    if asked in SERVES[found]:
        return
    text = (
        f"{dataset.name} is labelled for {found}, and the job is to {asked}. Name a dataset for {asked}, or "
        f"a model and task for {found}: `vmesh datasets list` shows what each dataset is good for."
    )
    raise invalid(Reason.DATASET_UNLABELLED, f"job.{kind}.dataset", text)


def _word(task: int) -> str:
    return vision_pb2.Task.Name(task).removeprefix("TASK_").lower()  # type: ignore[arg-type]
