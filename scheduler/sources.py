"""What FetchObject sends: objects of the stores, and images that may turn out not to be had."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from google.rpc import code_pb2, status_pb2

from scheduler.media_store import MediaImage
from scheduler.services.transfer import pieces
from visionmesh import errors
from visionmesh.errors import NotFound, Reason, not_found
from visionmesh.storage import ObjectStore
from visionmesh.v1 import runner_pb2


class Source(ABC):
    """One object to send to a runner."""

    @abstractmethod
    def responses(self) -> AsyncGenerator[runner_pb2.FetchObjectResponse, None]:
        """Its header, then its bytes. Raises MeshError if it cannot be had."""

    async def head(self) -> runner_pb2.FetchObjectResponse:
        """Its header alone; for a runner that gets the bytes elsewhere."""
        responses = self.responses()
        try:
            return await anext(responses)
        finally:
            await responses.aclose()


@dataclass(frozen=True)
class StoredSource(Source):
    """An object of a store. Raises NOT_FOUND if it is gone, DATA_LOSS if it is not what was stored."""

    header: runner_pb2.ObjectHeader
    store: ObjectStore
    key: str

    async def responses(self) -> AsyncGenerator[runner_pb2.FetchObjectResponse, None]:
        """See Source."""
        yield await self.head()
        async for chunk in pieces(self.store, self.key, self.header.uri):
            yield runner_pb2.FetchObjectResponse(chunk=chunk)

    async def head(self) -> runner_pb2.FetchObjectResponse:
        """Nothing is to be read for it."""
        return runner_pb2.FetchObjectResponse(header=self.header)


@dataclass(frozen=True)
class StoredImage(Source):
    """An image of a store. One that is gone is an error in its header, for the others are still there."""

    header: runner_pb2.ObjectHeader
    store: ObjectStore
    key: str

    async def responses(self) -> AsyncGenerator[runner_pb2.FetchObjectResponse, None]:
        """See Source."""
        chunks = pieces(self.store, self.key, self.header.uri)
        try:
            header = await self._known()
            first = await anext(chunks, b"")
        except NotFound:
            yield self._gone()
            return
        yield runner_pb2.FetchObjectResponse(header=header)
        if first:
            yield runner_pb2.FetchObjectResponse(chunk=first)
        async for chunk in chunks:
            yield runner_pb2.FetchObjectResponse(chunk=chunk)

    async def head(self) -> runner_pb2.FetchObjectResponse:
        """Whoever reads the bytes finds out whether it is gone, if that was not looked at here."""
        try:
            return runner_pb2.FetchObjectResponse(header=await self._known())
        except NotFound:
            return self._gone()

    def _gone(self) -> runner_pb2.FetchObjectResponse:
        text = f"{self.header.uri} is not in the store any more. Send the image again, with a new job."
        return refusal(self.header.uri, errors.status(code_pb2.NOT_FOUND, Reason.NOT_FOUND, text))

    async def _known(self) -> runner_pb2.ObjectHeader:
        """The header, with what the store knows if that was not known before. Raises NOT_FOUND."""
        if self.header.size_bytes:
            return self.header
        found = await self.store.stat(self.key)
        if found is None:
            raise not_found("object", self.header.uri)
        return runner_pb2.ObjectHeader(
            uri=self.header.uri,
            path=self.header.path,
            size_bytes=found.size_bytes,
            sha256=found.sha256 or "",
        )


@dataclass(frozen=True)
class FetchedImage(Source):
    """An image of the media store, or the reason why it cannot be had."""

    uri: str
    found: MediaImage | status_pb2.Status

    async def responses(self) -> AsyncGenerator[runner_pb2.FetchObjectResponse, None]:
        """See Source."""
        if isinstance(self.found, status_pb2.Status):
            yield refusal(self.uri, self.found)
            return
        with self.found.file:
            header = runner_pb2.ObjectHeader(
                uri=self.uri, path="image", size_bytes=self.found.size_bytes, sha256=self.found.sha256
            )
            yield runner_pb2.FetchObjectResponse(header=header)
            async for chunk in self.found.chunks():
                yield runner_pb2.FetchObjectResponse(chunk=chunk)


def refusal(uri: str, why: status_pb2.Status) -> runner_pb2.FetchObjectResponse:
    """What takes the place of an image that cannot be had."""
    return runner_pb2.FetchObjectResponse(header=runner_pb2.ObjectHeader(uri=uri, error=why))
