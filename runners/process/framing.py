"""Messages on a byte stream: each preceded by its length as varint, as protobuf's own delimited streams."""

from collections.abc import Callable
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError, Message

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""No event comes near: a larger length means that the stream is not ours."""

_MAX_VARINT_BYTES = 5

M = TypeVar("M", bound=Message)


class FramingError(Exception):
    """The bytes are not a stream of delimited messages."""


def encode(message: Message) -> bytes:
    """`message` with its length in front. Raises FramingError if it is too large to be read back."""
    body = message.SerializeToString()
    if len(body) > MAX_MESSAGE_BYTES:
        raise FramingError(f"a message of {len(body)} bytes is above the limit of {MAX_MESSAGE_BYTES}")
    return _varint(len(body)) + body


class Decoder(Generic[M]):
    """Takes a stream apart that arrives in pieces of any size.

    `Decoder(ProcessEvent)` for the agent, `Decoder(ProcessCommand)` for the job process.
    """

    def __init__(self, make: Callable[[], M]) -> None:
        self._make = make
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[M]:
        """The messages that `data` completes, in order; the rest is kept for the next call.

        Raises FramingError if the bytes cannot be such a stream; nothing after that can be read.
        """
        self._buffer += data
        messages = []
        start = 0
        while (frame := self._frame(start)) is not None:
            begin, end = frame
            messages.append(self._parse(bytes(self._buffer[begin:end])))
            start = end
        del self._buffer[:start]
        return messages

    @property
    def pending_bytes(self) -> int:
        """Bytes of a message that is not complete; more than 0 at the end of a stream means it was cut."""
        return len(self._buffer)

    def _frame(self, start: int) -> tuple[int, int] | None:
        """Begin and end of the message whose length stands at `start`; None if it is not all there."""
        length = 0
        for count in range(_MAX_VARINT_BYTES):
            if start + count >= len(self._buffer):
                return None
            byte = self._buffer[start + count]
            length |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                break
        else:
            raise FramingError("the length of a message takes more than 5 bytes")
        if length > MAX_MESSAGE_BYTES:
            raise FramingError(f"a message claims {length} bytes; the limit is {MAX_MESSAGE_BYTES}")
        begin = start + count + 1
        return (begin, begin + length) if begin + length <= len(self._buffer) else None

    def _parse(self, body: bytes) -> M:
        message = self._make()
        try:
            message.ParseFromString(body)
        except DecodeError as error:
            raise FramingError(f"a message of {len(body)} bytes cannot be decoded: {error}") from error
        return message


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
