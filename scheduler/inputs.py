"""What a job reads: names in its spec turned into objects of the stores.

The same resolution serves three moments: when a job is created, to refuse what does not exist;
when it is assigned, to tell the runner what to fetch; and when the runner fetches, to give it
nothing else.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message

from scheduler.catalog import Catalog, FileRecord, is_image
from scheduler.core.model import TERMINAL, JobState
from scheduler.media_fetch import MediaFetch
from scheduler.media_store import BadId, id_of, uri_of
from scheduler.oversize import too_large
from scheduler.publishing import attempt_prefix
from scheduler.sources import Source, StoredImage, StoredSource
from scheduler.store import datasets, history, listed_images, present
from scheduler.store.claims import Claim
from scheduler.store.passing import objects_away
from scheduler.store.store import Store
from visionmesh import names
from visionmesh.datasets.images import SUFFIXES
from visionmesh.errors import MeshError, Reason, invalid
from visionmesh.limits import MAX_REQUEST_BYTES, MIB
from visionmesh.storage import BadKey, ObjectStore, StoredObject, StoreError
from visionmesh.v1 import job_pb2, runner_pb2, vision_pb2

CHECKPOINT_ARTIFACTS = frozenset({"best", "last"})
MAX_IMAGE_LIST_BYTES = MAX_REQUEST_BYTES - 4 * MIB
"""An assignment names each image: about 300 bytes for one, so some hundred thousand fit."""

_IMAGES = f"Images are files that end in {', '.join(sorted(SUFFIXES))}."


@dataclass(frozen=True)
class Inputs:
    """What a job reads."""

    dataset: runner_pb2.DatasetInput | None = None
    checkpoint: runner_pb2.ObjectInput | None = None
    images: tuple[runner_pb2.ObjectInput, ...] = ()
    resume: bool = False
    start_checkpoint: runner_pb2.ObjectInput | None = None
    """With `resume`: what to start from if the checkpoint cannot be used."""
    embedding_checkpoint: runner_pb2.ObjectInput | None = None
    """What turns faces into vectors."""


class InputResolver:
    """Turns names into objects."""

    def __init__(self, store: Store, catalog: Catalog, media: MediaFetch | None = None) -> None:
        """Without `media`, jobs that name images of the media store are refused."""
        self._store, self._catalog, self._media = store, catalog, media

    async def assignment(self, claim: Claim) -> runner_pb2.Assignment:
        """The message that gives a job to a runner.

        Raises INVALID_ARGUMENT if an input is gone, and ObjectsAway.
        """
        job = await self._job(claim.job_id)
        try:
            inputs = await self.resolve(job)
        except StoreError as error:
            raise objects_away(error) from error
        return runner_pb2.Assignment(
            job=job,
            attempt=claim.attempt,
            dataset=inputs.dataset,
            checkpoint=inputs.checkpoint,
            images=inputs.images,
            resume=inputs.resume,
            start_checkpoint=inputs.start_checkpoint,
            embedding_checkpoint=inputs.embedding_checkpoint,
            gpu_indices=claim.gpu_indices,
            datasets_bucket=location(self._catalog.datasets),
            artifacts_bucket=location(self._catalog.artifacts),
            output_uri=self._catalog.artifacts.uri(attempt_prefix(claim.job_id, claim.attempt)[:-1]) + "/",
        )

    async def _job(self, job_id: str) -> job_pb2.Job:
        async with self._store.read() as connection:
            job = await present.job(connection, job_id)
        if job is None:
            raise invalid(Reason.NOT_FOUND, "job", "the job was deleted")
        return job

    async def resolve(self, job: job_pb2.Job, *, is_new: bool = False) -> Inputs:
        """Everything that `job` reads. Raises INVALID_ARGUMENT naming the field that does not exist.

        For a job that is new, an artifact of a job that has not ended yet counts as existing. For one that
        was accepted, images are those of then: one that has vanished keeps its place, and its prediction
        will say so. No place
        at the database is held while the object store is asked, which may take long to answer.
        """
        kind = job.WhichOneof("spec") or "train"
        path, spec = f"job.{kind}", getattr(job, kind)
        if kind == "embed_faces":
            path, spec = "job.embed_faces.detection", job.embed_faces.detection
        resumed = await self._last_checkpoint(job) if kind == "train" and job.name else None
        dataset = getattr(spec, "dataset", "")
        named = await self._named(spec, f"{path}.checkpoint", is_new, needed=resumed is None)
        embedder = job.embed_faces.embedding_checkpoint
        embedder_field = "job.embed_faces.embedding_checkpoint"
        return Inputs(
            dataset=await self._dataset(dataset, f"{path}.dataset") if dataset else None,
            checkpoint=resumed or named,
            images=await self._listed(job) or tuple(await self._images(spec, f"{path}.images", is_new)),
            resume=resumed is not None,
            start_checkpoint=named if resumed else None,
            embedding_checkpoint=await self._checkpoint(embedder, embedder_field, is_new),
        )

    async def _named(
        self, spec: Message, field: str, is_new: bool, *, needed: bool
    ) -> runner_pb2.ObjectInput | None:
        """The checkpoint that the spec names; None if there is none, or if it is gone and not needed."""
        try:
            return await self._checkpoint(getattr(spec, "checkpoint", ""), field, is_new)
        except MeshError:
            if needed:
                raise
            return None

    async def _last_checkpoint(self, job: job_pb2.Job) -> runner_pb2.ObjectInput | None:
        """The checkpoint from which a new attempt of a training goes on, if an earlier one left any."""
        async with self._store.read() as connection:
            last = await history.artifact(connection, names.job_id(job.name), "last")
        if last is None or last.metadata.get("resumable") != "true":
            return None
        return runner_pb2.ObjectInput(
            uri=last.uri, size_bytes=last.size_bytes, sha256=last.sha256, display_name=last.name
        )

    async def _dataset(self, name: str, field: str) -> runner_pb2.DatasetInput:
        async with self._store.read() as connection:
            dataset = await datasets.get(connection, names.dataset_id(name))
            newest = [] if dataset else await datasets.ids(connection, 5)
        if dataset is None:
            known = [names.dataset_name(found) for found in newest]
            hint = f"The newest are {', '.join(known)}." if known else "There is none yet: create one first."
            raise invalid(Reason.DATASET_NOT_FOUND, field, f"there is no dataset {name!r}. {hint}")
        return runner_pb2.DatasetInput(
            name=dataset.name,
            digest=dataset.digest,
            class_names=dataset.class_names,
            splits=[split.name for split in dataset.splits],
            uri=dataset.uri,
        )

    async def _checkpoint(self, name: str, field: str, is_new: bool) -> runner_pb2.ObjectInput | None:
        if not name:
            return None
        if names.is_artifact(name):
            return await self._artifact(name, field, is_new)
        if name.startswith("uploads/"):
            return await self._upload(name, field)
        store, key = self._place(name, field)
        found = await store.stat(key)
        if found is None:
            text = f"there is no object {name!r}. Check the spelling, or upload the file and name the upload."
            raise invalid(Reason.CHECKPOINT_NOT_FOUND, field, text)
        return runner_pb2.ObjectInput(
            uri=name, size_bytes=found.size_bytes, sha256=found.sha256 or "", display_name=name
        )

    async def _artifact(self, name: str, field: str, is_new: bool) -> runner_pb2.ObjectInput | None:
        async with self._store.read() as connection:
            artifact = await history.artifact(connection, names.job_id(name), names.artifact_path(name))
            maker = None if artifact else await present.job(connection, names.job_id(name))
        if artifact is not None:
            return runner_pb2.ObjectInput(
                uri=artifact.uri,
                size_bytes=artifact.size_bytes,
                sha256=artifact.sha256,
                display_name=artifact.name,
            )
        if maker is None:
            absent = names.job_name(names.job_id(name))
            text = f"there is no job {absent!r}. List what there is, and check the spelling."
            raise invalid(Reason.CHECKPOINT_NOT_FOUND, field, text)
        state = JobState(vision_pb2.JobState.Name(maker.state).removeprefix("JOB_STATE_"))
        coming = maker.WhichOneof("spec") == "train" and names.artifact_path(name) in CHECKPOINT_ARTIFACTS
        if is_new and coming and state not in TERMINAL:
            return None
        why = f"{maker.name} is {state} and has no artifact {names.artifact_path(name)!r}"
        fix = "A training leaves artifacts 'best' and 'last'; list what a job has with ListArtifacts."
        raise invalid(Reason.CHECKPOINT_NOT_FOUND, field, f"{why}. {fix}")

    async def _upload(self, name: str, field: str) -> runner_pb2.ObjectInput:
        async with self._store.read() as connection:
            found = await datasets.upload(connection, names.upload_id(name))
        if found is None:
            raise invalid(Reason.NOT_FOUND, field, f"there is no upload {name!r}. Upload the file first.")
        upload, key = found
        return runner_pb2.ObjectInput(
            uri=self._catalog.datasets.uri(key),
            size_bytes=upload.size_bytes,
            sha256=upload.sha256,
            display_name=upload.filename,
        )

    async def _listed(self, job: job_pb2.Job) -> tuple[runner_pb2.ObjectInput, ...]:
        """The images that an accepted job found in folders; none if it is new, or names each image."""
        if not job.name or not listed_images.reads_folders(job):
            return ()
        async with self._store.read() as connection:
            uris = await listed_images.of(connection, names.job_id(job.name))
        return tuple(runner_pb2.ObjectInput(uri=uri, display_name=uri) for uri in uris or ())

    async def _images(self, spec: Message, field: str, is_new: bool) -> list[runner_pb2.ObjectInput]:
        if "images" not in spec.DESCRIPTOR.fields_by_name:
            return []
        source: job_pb2.ImageSource = getattr(spec, "images")  # noqa: B009 - not every spec has it
        match source.WhichOneof("source"):
            case "dataset_images":
                found = await self._split_images(source.dataset_images, f"{field}.dataset_images")
            case "upload":
                found = await self._uploaded_images(source.upload, f"{field}.upload")
            case "uris":
                where = f"{field}.uris.uris"
                found = [i for uri in source.uris.uris for i in await self._images_at(uri, where, is_new)]
            case _:
                found = self._media_images(source.media_store.ids, f"{field}.media_store")
        if not found:
            raise invalid(Reason.IMAGES_NOT_FOUND, field, f"there is no image in it. {_IMAGES}")
        size = sum(image.ByteSize() for image in found)
        if size > MAX_IMAGE_LIST_BYTES:
            instead = "Make several jobs of them."
            raise too_large(
                field, f"The list of its {len(found)} images", size, MAX_IMAGE_LIST_BYTES, instead
            )
        return found

    async def _split_images(self, wanted: job_pb2.DatasetImages, field: str) -> list[runner_pb2.ObjectInput]:
        dataset = await self._dataset(wanted.dataset, f"{field}.dataset")
        split = wanted.split or next((s for s in ("test", "val") if s in dataset.splits), "train")
        if split not in dataset.splits:
            text = f"{wanted.dataset} has no split {split!r}. Choose one of {', '.join(dataset.splits)}."
            raise invalid(Reason.IMAGES_NOT_FOUND, f"{field}.split", text)
        prefix = self._catalog.dataset_prefix(names.dataset_id(wanted.dataset))
        files = await self._catalog.manifest(prefix)
        places = (f"images/{split}/", f"{split}/")  # the second where classes have folders
        shown = [file for file in files if file.path.startswith(places) and is_image(file.path)]
        return [self._input(prefix, file, f"{wanted.dataset}/{file.path}") for file in shown]

    async def _uploaded_images(self, name: str, field: str) -> list[runner_pb2.ObjectInput]:
        whole = await self._upload(name, field)
        if not whole.display_name.lower().endswith(".zip"):
            return [whole]
        prefix = self._catalog.upload_prefix(names.upload_id(name))
        files = await self._catalog.unpacked_upload(prefix, whole.uri, field)
        return [self._input(prefix, file, file.path) for file in files if is_image(file.path)]

    def _input(self, prefix: str, file: FileRecord, display_name: str) -> runner_pb2.ObjectInput:
        return runner_pb2.ObjectInput(
            uri=self._catalog.datasets.uri(prefix + file.path),
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            display_name=display_name,
        )

    def _media_images(self, ids: Iterable[str], field: str) -> list[runner_pb2.ObjectInput]:
        if self._media is None:
            text = "no media store is configured. Give uris, an upload or dataset_images."
            raise invalid(Reason.UNSUPPORTED, field, text)
        try:
            return [runner_pb2.ObjectInput(uri=uri_of(each), display_name=f"media:{each}") for each in ids]
        except BadId as bad:
            raise invalid(Reason.BAD_URI, f"{field}.ids", f"{bad}. Name images by their ids alone.") from None

    async def _images_at(self, uri: str, field: str, is_new: bool) -> list[runner_pb2.ObjectInput]:
        store, key = self._place(uri.rstrip("/"), field)
        if uri.endswith("/"):
            found = [obj async for obj in store.entries(key + "/") if is_image(obj.key)]
        else:
            one = await store.stat(key)
            if one is None and not is_new:
                one = StoredObject(key, 0, None)
            found = [one] if one is not None else []
        if not found:
            text = f"there is no image at {uri!r}. A folder's URI ends in /. {_IMAGES}"
            raise invalid(Reason.IMAGES_NOT_FOUND, field, text)
        return [
            runner_pb2.ObjectInput(
                uri=store.uri(obj.key),
                size_bytes=obj.size_bytes,
                sha256=obj.sha256 or "",
                display_name=store.uri(obj.key),
            )
            for obj in found
        ]

    def _place(self, uri: str, field: str) -> tuple[ObjectStore, str]:
        """Store and key of a URI. Raises BAD_URI if it lies outside both stores."""
        for store in (self._catalog.artifacts, self._catalog.datasets):
            try:
                key = store.key_of(uri)
            except BadKey as bad:
                text = f"{uri!r} cannot be used: {bad}. Name a file as it lies in the store, or upload it."
                raise invalid(Reason.BAD_URI, field, text) from None
            if key is not None:
                return store, key
        text = (
            f"{uri!r} is neither jobs/{{job}}/artifacts/{{artifact}}, uploads/{{upload}}, nor a URI inside "
            "the configured stores. Upload the file, and name the upload."
        )
        raise invalid(Reason.BAD_URI, field, text)

    async def sources(self, job_id: str, uris: Iterable[str]) -> AsyncGenerator[Source, None]:
        """The objects behind `uris`. Raises PERMISSION_DENIED for what the job does not read."""
        inputs = await self.resolve(await self._job(job_id))
        images = {image.uri: image for image in inputs.images}
        checkpoints = (inputs.checkpoint, inputs.start_checkpoint, inputs.embedding_checkpoint)
        weights = {c.uri: c for c in checkpoints if c is not None}
        media: list[str] = []
        for uri in uris:
            if uri in images and (media_id := id_of(uri)) is not None:
                media.append(media_id)
            elif uri in images:
                yield StoredImage(*self._single(images[uri]))
            elif uri in weights:
                yield StoredSource(*self._single(weights[uri]))
            elif inputs.dataset is not None and uri == inputs.dataset.uri:
                async for source in self._folder(names.dataset_id(inputs.dataset.name)):
                    yield source
            else:
                raise _foreign(uri, job_id)
        if media and self._media is not None:
            async with aclosing(self._media.images(job_id, media)) as fetched:
                async for source in fetched:
                    yield source

    def _single(self, found: runner_pb2.ObjectInput) -> tuple[runner_pb2.ObjectHeader, ObjectStore, str]:
        store, key = self._place(found.uri, "uris")
        header = runner_pb2.ObjectHeader(
            uri=found.uri,
            path=key.rsplit("/", 1)[-1],
            size_bytes=found.size_bytes,
            sha256=found.sha256,
        )
        return header, store, key

    async def _folder(self, dataset_id: str) -> AsyncIterator[Source]:
        prefix = self._catalog.dataset_prefix(dataset_id)
        for file in await self._catalog.manifest(prefix):
            key = prefix + file.path
            header = runner_pb2.ObjectHeader(
                uri=self._catalog.datasets.uri(key),
                path=file.path,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
            )
            yield StoredSource(header, self._catalog.datasets, key)


def location(store: ObjectStore) -> runner_pb2.BucketLocation | None:
    """What a runner must know to go to a store by itself; None if it cannot."""
    if store.location is None:
        return None
    url, s3 = store.location
    return runner_pb2.BucketLocation(url=url, endpoint=s3.endpoint, region=s3.region)


def _foreign(uri: str, job_id: str) -> MeshError:
    text = f"{uri!r} is not an input of {names.job_name(job_id)}. Fetch only what the assignment names."
    return MeshError(grpc.StatusCode.PERMISSION_DENIED, Reason.PERMISSION_DENIED, text)
