"""What a checkpoint is, by its first bytes."""

from pathlib import Path


def is_of_torch(path: Path | None) -> bool:
    """Whether a file is safetensors or what torch writes; an ONNX file is neither."""
    if path is None or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" or head[:4] == b"PK\x03\x04"
