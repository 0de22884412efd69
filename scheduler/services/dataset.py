"""DatasetService: uploads, and datasets made from them."""

import asyncio
import hashlib
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2

from scheduler.catalog import Catalog
from scheduler.oversize import fitting
from scheduler.services import pages
from scheduler.services.interceptor import check
from scheduler.services.transfer import bytes_of, file_too_large, stored
from scheduler.store import datasets, jobs, media
from scheduler.store.present import timestamp
from scheduler.store.schema import micros
from scheduler.store.store import Store
from visionmesh import names
from visionmesh.datasets.archives import BadArchive, FileEntry, dataset_digest, file_entry, unpack
from visionmesh.datasets.formats import Examined, Format, examine
from visionmesh.datasets.report import DatasetReport
from visionmesh.errors import MeshError, Reason, Violation, invalid, invalid_fields, not_found
from visionmesh.v1 import dataset_pb2, dataset_pb2_grpc, vision_pb2

Context = grpc.aio.ServicerContext[Any, Any]
SHOWN_PROBLEMS = 20


class DatasetService(dataset_pb2_grpc.DatasetServiceServicer):
    """See dataset.proto."""

    def __init__(self, store: Store, catalog: Catalog, max_upload_bytes: int) -> None:
        self._store, self._catalog, self._max_upload_bytes = store, catalog, max_upload_bytes
        self._keeping = asyncio.Lock()
        """Two datasets of one name must not mix their files."""

    async def UploadFile(
        self, requests: AsyncIterator[dataset_pb2.UploadFileRequest], context: Context
    ) -> dataset_pb2.Upload:
        """Store one file."""
        first = await anext(aiter(requests), None)
        if first is None or not first.HasField("header"):
            raise invalid(Reason.INVALID_ARGUMENT, "header", "the first message of UploadFile is the header")
        check(first)
        header = first.header
        if header.size_bytes > self._max_upload_bytes:
            raise file_too_large(header.size_bytes, self._max_upload_bytes)
        upload_id = names.new_id("upload")
        suffix = Path(header.filename).suffix.lower()
        key = f"uploads/{upload_id}/content{suffix if re.fullmatch(r'[.][a-z0-9]{1,8}', suffix) else ''}"
        chunks = bytes_of(requests, self._max_upload_bytes)
        found = await stored(
            self._catalog.datasets, key, chunks, header.size_bytes or None, header.sha256 or None
        )
        upload = dataset_pb2.Upload(
            name=names.upload_name(upload_id),
            filename=header.filename,
            size_bytes=found.size_bytes,
            sha256=found.sha256 or "",
        )
        async with self._store.change() as change:
            upload.create_time.FromDatetime(change.now)
            await datasets.add_upload(change, upload, key)
        return upload

    async def CreateDataset(
        self, request: dataset_pb2.CreateDatasetRequest, context: Context
    ) -> dataset_pb2.Dataset:
        """Unpack, check and store a dataset."""
        async with self._store.read() as connection:
            upload = await datasets.upload(connection, names.upload_id(request.upload))
        if upload is None:
            raise invalid(
                Reason.NOT_FOUND,
                "upload",
                f"there is no upload {request.upload!r}. Upload the archive first.",
            )
        with tempfile.TemporaryDirectory(prefix="visionmesh-") as scratch:
            folder = Path(scratch) / "files"
            entries = await self._unpack(upload[1], Path(scratch) / "upload.zip", folder)
            found = await asyncio.to_thread(examine, folder, Path(scratch) / "split")
            _refuse_problems(found.report)
            _settle(request.dataset, found)
            places = await asyncio.to_thread(found.layout.standardize, found.folder)
            entries = await asyncio.to_thread(_moved, entries, found, places)
            dataset = _describe(request, found.layout, found.report, entries)
            if request.validate_only:
                return dataset
            async with self._keeping:
                return await self._keep(request, dataset, found.folder, entries)

    async def _unpack(self, key: str, archive: Path, folder: Path) -> list[FileEntry]:
        await self._catalog.fetch(key, archive)
        try:
            return await asyncio.to_thread(unpack, archive, folder, self._catalog.limits)
        except BadArchive as bad:
            raise invalid(Reason.BAD_ARCHIVE, "upload", str(bad)) from None

    async def _keep(
        self,
        request: dataset_pb2.CreateDatasetRequest,
        dataset: dataset_pb2.Dataset,
        folder: Path,
        entries: list[FileEntry],
    ) -> dataset_pb2.Dataset:
        dataset_id = request.dataset_id or names.new_id("data")
        dataset.name = names.dataset_name(dataset_id)
        prefix = self._catalog.dataset_prefix(dataset_id)
        dataset.uri = self._catalog.datasets.uri(prefix.rstrip("/")) + "/"
        fingerprint = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        known = await self._existing(request.request_id, fingerprint, dataset)
        if known is not None:
            return known
        await self._catalog.add_folder(folder, entries, prefix)
        async with self._store.change() as change:
            await jobs.remember_request(change, "", request.request_id, fingerprint, dataset.name)
            dataset.create_time.CopyFrom(timestamp(change.now))
            await datasets.add(change, dataset)
        return dataset

    async def _existing(
        self, request_id: str, fingerprint: str, dataset: dataset_pb2.Dataset
    ) -> dataset_pb2.Dataset | None:
        """What the same request made before, or the dataset of that name with the same files.

        Raises ALREADY_EXISTS if the name or the request_id stands for something else.
        """
        async with self._store.read() as connection:
            before = await jobs.known_request(connection, "", request_id, fingerprint)
            if before is not None:
                return await datasets.get(connection, names.dataset_id(before))
            known = await datasets.get(connection, names.dataset_id(dataset.name))
        if known is not None and known.digest != dataset.digest:
            text = (
                f"{dataset.name} exists and has other files. Choose another dataset_id, or delete it first."
            )
            metadata = {"resource_type": "dataset", "resource_name": dataset.name}
            raise MeshError(grpc.StatusCode.ALREADY_EXISTS, Reason.ALREADY_EXISTS, text, metadata)
        return known

    async def GetDataset(
        self, request: dataset_pb2.GetDatasetRequest, context: Context
    ) -> dataset_pb2.Dataset:
        """Return one dataset."""
        async with self._store.read() as connection:
            dataset = await datasets.get(connection, names.dataset_id(request.name))
        if dataset is None:
            raise not_found("dataset", request.name)
        return dataset

    async def ListDatasets(
        self, request: dataset_pb2.ListDatasetsRequest, context: Context
    ) -> dataset_pb2.ListDatasetsResponse:
        """List datasets, newest first."""
        size = request.page_size or pages.DEFAULT_PAGE_SIZE
        position = pages.decode(request.page_token, "datasets", (int, str))
        before = (position[0], position[1]) if position else None
        async with self._store.read() as connection:
            found = await datasets.page(connection, before, size + 1)
        shown = fitting(found, size)
        token = ""
        if len(found) > len(shown):
            moment = micros(shown[-1].create_time.ToDatetime(tzinfo=UTC))
            token = pages.encode("datasets", [moment, names.dataset_id(shown[-1].name)])
        return dataset_pb2.ListDatasetsResponse(datasets=shown, next_page_token=token)

    async def DeleteDataset(
        self, request: dataset_pb2.DeleteDatasetRequest, context: Context
    ) -> empty_pb2.Empty:
        """Delete a dataset and its files."""
        dataset_id = names.dataset_id(request.name)
        async with self._store.change() as change:
            await datasets.remove(change, dataset_id)
        await self._catalog.remove(self._catalog.dataset_prefix(dataset_id))
        return empty_pb2.Empty()

    async def ListMediaItems(
        self, request: dataset_pb2.ListMediaItemsRequest, context: Context
    ) -> dataset_pb2.ListMediaItemsResponse:
        """List images of the media store by id."""
        size = request.page_size or pages.DEFAULT_PAGE_SIZE
        state = dataset_pb2.MediaItemState.Name(request.state).removeprefix("MEDIA_ITEM_STATE_")
        wanted = "" if state == "UNSPECIFIED" else state
        query = f"media {state} {sorted(set(request.ids))}"
        after = (pages.decode(request.page_token, query, (str,)) or [""])[0]
        async with self._store.read() as connection:
            found = await media.page(connection, wanted, request.ids, after, size + 1)
        shown = fitting(found, size)
        token = pages.encode(query, [shown[-1].id]) if len(found) > len(shown) else ""
        return dataset_pb2.ListMediaItemsResponse(items=shown, next_page_token=token)


def _refuse_problems(report: DatasetReport) -> None:
    if report.problems:
        raise invalid_fields(
            Reason.DATASET_INVALID,
            [
                Violation(f"{problem.file}:{problem.line}" if problem.line else problem.file, problem.message)
                for problem in report.problems[:SHOWN_PROBLEMS]
            ],
        )


def _settle(asked: dataset_pb2.Dataset, found: Examined) -> None:
    """Take the task that the caller has told. Raises INVALID_ARGUMENT if that, or the layout, is another."""
    told = _format(found.layout)
    if asked.format not in (dataset_pb2.DATASET_FORMAT_UNSPECIFIED, told):
        text = f"the files are laid out as {found.layout.name}. Leave format out, or change their layout."
        raise invalid(Reason.DATASET_INVALID, "dataset.format", text)
    if asked.task:
        task = vision_pb2.Task.Name(asked.task).removeprefix("TASK_").lower()
        if (problem := found.report.prefer(task)) is not None:
            text = f"{problem}. Leave task out, or change the labels."
            raise invalid(Reason.DATASET_INVALID, "dataset.task", text)


def _format(layout: Format) -> dataset_pb2.DatasetFormat.ValueType:
    return dataset_pb2.DatasetFormat.Value(f"DATASET_FORMAT_{layout.name.upper()}")


def _moved(entries: list[FileEntry], found: Examined, places: Mapping[str, str]) -> list[FileEntry]:
    """The files that are stored, at their `places`; those that splitting has written among them."""
    unpacked = {found.places.get(entry.path, entry.path): entry for entry in entries}
    return [
        replace(unpacked[path], path=place) if path in unpacked else file_entry(found.folder, place)
        for path, place in places.items()
    ]


def _describe(
    request: dataset_pb2.CreateDatasetRequest,
    layout: Format,
    report: DatasetReport,
    entries: list[FileEntry],
) -> dataset_pb2.Dataset:
    return dataset_pb2.Dataset(
        display_name=request.dataset.display_name,
        format=_format(layout),
        task=vision_pb2.Task.Value(f"TASK_{report.task.upper()}"),
        class_names=report.class_names,
        keypoint_names=report.keypoint_names,
        splits=[
            dataset_pb2.DatasetSplit(
                name=split.name,
                images=split.images,
                labelled_images=split.labelled_images,
                instances=split.instances,
                class_instances=split.class_instances,
            )
            for split in report.splits
        ],
        size_bytes=sum(entry.size_bytes for entry in entries),
        digest=dataset_digest(entries),
    )
