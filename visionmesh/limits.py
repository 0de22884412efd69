"""How large messages may be, on both sides of the wire."""

MIB = 1024 * 1024

MAX_REQUEST_BYTES = 32 * MIB
"""A larger request, or assignment, is refused with MESSAGE_TOO_LARGE."""

MAX_RECEIVED_BYTES = 64 * MIB
"""What is larger still gRPC itself refuses, without a reason of ours."""

MAX_ITEM_BYTES = 3 * MIB
"""One result. With what goes around it, it fits into the 4 MiB that gRPC clients take by default."""

MAX_JOB_BYTES = 2 * MIB
"""A job as it is created; its progress and its errors come on top."""

MAX_UPDATE_BYTES = MIB // 4
"""One update of a job's progress."""

MAX_ERROR_BYTES = MIB // 32
"""One stored error; a longer one is cut."""

PAGE_BYTES = MAX_ITEM_BYTES
"""A page of a list ends before it would grow larger, for the same reason; one item there always is."""

MAX_CHUNK_BYTES = MIB
"""One piece of a file."""
