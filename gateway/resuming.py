"""Where a watch stands, and how it goes on: by the fields that the contracts have for it.

A watch whose request has `after_sequence` goes on after a number, which each message tells as `sequence`, or
the part of it that is set does; one whose request has `resume_token` goes on after a token, which each
message tells under the same name.
"""

from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from visionmesh.errors import Reason, invalid


@dataclass(frozen=True)
class Position:
    """The fields of one watch."""

    requested: str
    """Of the request: after_sequence or resume_token."""

    told: str
    """Of a message: sequence or resume_token."""

    def of(self, message: Message) -> str:
        """Where the stream stands after `message`; empty if it does not tell."""
        for part in (message, *_set_parts(message)):
            if self.told in part.DESCRIPTOR.fields_by_name:
                return str(getattr(part, self.told) or "")
        return ""

    def resume(self, request: Any, last: str) -> None:
        """Have `request` go on after `last`. Raises INVALID_ARGUMENT."""
        try:
            setattr(request, self.requested, last if self.told == "resume_token" else int(last))
        except ValueError:
            text = f"Last-Event-ID {last!r} is none of this stream. Leave it out to begin again."
            raise invalid(Reason.INVALID_ARGUMENT, self.requested, text) from None


def position_of(method: MethodDescriptor) -> Position | None:
    """How a watch of `method` resumes; None if it does not."""
    for requested, told in (("after_sequence", "sequence"), ("resume_token", "resume_token")):
        if requested in method.input_type.fields_by_name:
            return Position(requested, told)
    return None


def _set_parts(message: Message) -> list[Message]:
    return [value for field, value in message.ListFields() if field.message_type and not field.is_repeated]
