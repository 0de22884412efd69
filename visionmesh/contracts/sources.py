"""The text of each contract and of everything that it imports."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from visionmesh.contracts.printer import proto_source

ERRORS = ("google/rpc/code.proto", "google/rpc/error_details.proto", "google/rpc/status.proto")
"""What clients read typed errors with; no contract imports all of it."""

_PACKAGED = Path(__file__).parent / "protos"
_CHECKOUT = Path(__file__).parents[2] / "protos"
_GOOGLEAPIS = Path(annotations_pb2.__file__).parents[2]


def proto_files() -> dict[str, bytes]:
    """Every .proto file that protoc needs for a client, by its name below the import root.

    Raises FileNotFoundError where the installation lacks the contracts.
    """
    own = _contracts()
    names = sorted(path.relative_to(own).as_posix() for path in own.rglob("*.proto"))
    return {file.name: _text(file, own) for file in _with_imports(map(_compiled, [*names, *ERRORS]))}


def _contracts() -> Path:
    for folder in (_PACKAGED, _CHECKOUT):
        if (folder / "visionmesh").is_dir():
            return folder
    raise FileNotFoundError(
        f"This installation has no contracts: neither {_PACKAGED} nor {_CHECKOUT} holds them. "
        "Install visionmesh again."
    )


def _compiled(name: str) -> FileDescriptor:
    module = import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    descriptor: FileDescriptor = module.DESCRIPTOR
    return descriptor


def _with_imports(files: Iterable[FileDescriptor]) -> list[FileDescriptor]:
    """`files` and all that they import, each once, by name."""
    found: dict[str, FileDescriptor] = {}
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file.name not in found:
            found[file.name] = file
            waiting += file.dependencies
    return [found[name] for name in sorted(found)]


def _text(file: FileDescriptor, own: Path) -> bytes:
    """The source where an installed package has it; else printed from the descriptor."""
    for root in (own, _GOOGLEAPIS):
        if (root / file.name).is_file():
            return (root / file.name).read_bytes()
    return _printed(file).encode()


def _printed(file: FileDescriptor) -> str:
    compiled = FileDescriptorProto()
    file.CopyToProto(compiled)
    return (
        f"// Printed from the compiled {file.name}: complete, but for the comments.\n{proto_source(compiled)}"
    )
