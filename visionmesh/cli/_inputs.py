"""What --dataset, --checkpoint and --images may name: things of the mesh, or files that are sent to it."""

import asyncio
import re
from pathlib import Path
from urllib.parse import urlparse

import grpc
import typer
from rich.console import Console

from visionmesh import names
from visionmesh.cli._sending import Sending
from visionmesh.cli._submit_options import ImageOptions
from visionmesh.client import AsyncClient, file_digest, folder_digest, folder_files
from visionmesh.errors import MeshError
from visionmesh.v1 import job_pb2

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
"""Endings of files that are taken for images when a folder is sent."""

_NAME = re.compile(r"[a-z0-9-]{1,63}")


class Inputs:
    """Turns what the user wrote into names that the mesh knows, sending files where needed."""

    def __init__(self, client: AsyncClient, console: Console) -> None:
        self._client = client
        self._console = console

    async def dataset(self, text: str) -> str:
        """datasets/{dataset}: a name, or a local folder or zip, sent unless the mesh has it already.

        A plain word is a dataset of the mesh if there is one of that name; ./word is always a folder.
        """
        path = await asyncio.to_thread(_local, text)
        if path is None or (_NAME.fullmatch(text) and await self._known(text)):
            _refuse_missing_path(text, "--dataset")
            return text if text.startswith("datasets/") else names.dataset_name(text)
        dataset_id = await asyncio.to_thread(_dataset_id, path)
        if known := await self._known(dataset_id):
            return known
        with Sending(self._console, f"dataset {path.name}", then="checking") as on_progress:
            dataset = await self._client.create_dataset(path, dataset_id, path.name, on_progress)
        images = sum(split.images for split in dataset.splits)
        self._console.print(f"[dim]{dataset.name}: {images} images, {len(dataset.class_names)} classes[/]")
        return dataset.name

    async def _known(self, dataset: str) -> str:
        """The name of a dataset that the mesh has; empty if it has none such."""
        try:
            return (await self._client.dataset(dataset)).name
        except MeshError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return ""
            raise

    async def checkpoint(self, text: str) -> str:
        """An artifact, upload or URI; a job stands for its best checkpoint; a local file is sent.

        Nothing stays nothing: the model's published weights, or random ones for a training.
        """
        if not text:
            return ""
        if names.is_artifact(text) or text.startswith("uploads/") or "://" in text:
            return text
        path = await asyncio.to_thread(_local, text)
        if path is not None:
            with Sending(self._console, path.name) as on_progress:
                return (await self._client.upload_file(path, on_progress)).name
        _refuse_missing_path(text, "--checkpoint")
        job_id = text.removeprefix("jobs/")
        return names.artifact_name(job_id, "best")

    async def images(self, options: ImageOptions) -> job_pb2.ImageSource:
        """A dataset's split ("shapes:test"), URIs, an upload, or local images, folders and zips.

        Or ids of the media store.
        """
        texts = options.images
        if bool(texts) == bool(options.media):
            raise typer.BadParameter(
                "say which images: --images with a folder, a zip, files, dataset:split or URIs; "
                "or --media with ids of the media store"
            )
        if options.media:
            return job_pb2.ImageSource(media_store=job_pb2.MediaStoreImages(ids=options.media))
        if all("://" in text for text in texts):
            return job_pb2.ImageSource(uris=job_pb2.ImageUris(uris=texts))
        paths = [await asyncio.to_thread(_local, text) for text in texts]
        local = [path for path in paths if path is not None]
        if len(local) == len(texts):
            return job_pb2.ImageSource(upload=await self._send_images(local))
        if len(texts) > 1:
            missing = next(text for text, path in zip(texts, paths, strict=True) if path is None)
            raise typer.BadParameter(
                f"{missing!r} does not exist; several --images must all be files or URIs"
            )
        return _image_source(texts[0])

    async def _send_images(self, paths: list[Path]) -> str:
        if len(paths) == 1 and await asyncio.to_thread(paths[0].is_file):
            with Sending(self._console, paths[0].name) as on_progress:
                return (await self._client.upload_file(paths[0], on_progress)).name
        files = await asyncio.to_thread(_image_files, paths)
        with Sending(self._console, f"{len(files)} images") as on_progress:
            return (await self._client.upload_archive(files, "images.zip", on_progress)).name


def _local(text: str) -> Path | None:
    """The file or folder that `text` names, if there is one."""
    if urlparse(text).scheme and "://" in text:
        return None
    path = Path(text).expanduser()
    return path.resolve() if path.exists() else None


def _refuse_missing_path(text: str, option: str) -> None:
    """A name has no slash beyond its collection's, and no dot: what has is a path with a typing error."""
    name = re.sub(r"^(datasets|jobs)/", "", text)
    if re.search(r"[/\\.~]", name):
        raise typer.BadParameter(f"there is no file or folder {text!r}", param_hint=option)


def _dataset_id(path: Path) -> str:
    """An id that says the folder's name and changes with its content: sending again finds it there."""
    digest = folder_digest(path) if path.is_dir() else file_digest(path)
    stem = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:50].strip("-") or "dataset"
    return f"{stem}-{digest[:8]}"


def _image_files(paths: list[Path]) -> list[tuple[Path, str]]:
    files: list[tuple[Path, str]] = []
    for path in paths:
        inside = folder_files(path) if path.is_dir() else [(path, path.name)]
        files += [(file, name) for file, name in inside if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise typer.BadParameter(f"no images there; they end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    seen = {name for _, name in files}
    if len(seen) == len(files):
        return files
    # The same file name from several places: number them, keeping the given order.
    return [(file, f"{number:05}-{file.name}") for number, (file, _) in enumerate(files)]


def _image_source(text: str) -> job_pb2.ImageSource:
    if text.startswith("uploads/"):
        return job_pb2.ImageSource(upload=text)
    name, _, split = text.partition(":")
    _refuse_missing_path(name, "--images")
    dataset = name if name.startswith("datasets/") else names.dataset_name(name)
    return job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset, split=split))
