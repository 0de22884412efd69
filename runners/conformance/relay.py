"""The way from the runner to the scheduler; it can be frozen, as a peer that has lost its power is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """Carries connections to the scheduler."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._frozen: set[asyncio.StreamWriter] = set()
        self.accepted = 0
        """Connections so far."""
        self.address = ""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, both ways."""
        self.accepted += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if writer not in self._frozen:
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            pass  # the other end has noticed
        finally:
            self._writers.discard(writer)
            writer.close()

    def freeze(self) -> None:
        """From now on nothing arrives over the connections that there are; they stay open."""
        self._frozen |= self._writers

    def close(self) -> None:
        """Break every connection."""
        for writer in list(self._writers):
            writer.transport.abort()


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[Relay]:
    """A relay on a free port."""
    relay = Relay(port)
    server = await asyncio.start_server(relay.carry, "127.0.0.1", 0)
    async with server:
        host, listening = server.sockets[0].getsockname()
        relay.address = f"{host}:{listening}"
        try:
            yield relay
        finally:
            relay.close()
