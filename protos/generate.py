"""Turns the contracts into the committed Python package, or into a descriptor image.

    python protos/generate.py --python FOLDER   messages, services and their type stubs
    python protos/generate.py --image FILE      descriptor image with comments, for buf

Third-party protos are not copied into the repository: google/api and google/rpc come with
googleapis-common-protos, and buf/validate from the descriptor that protovalidate carries.
Python for buf/validate is made here too, because no wheel has it; it lives below visionmesh
so that nothing of ours claims the top-level name "buf".
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from protovalidate._gen.buf.validate import validate_pb

PROTOS = Path(__file__).resolve().parent
VALIDATE = "buf/validate/validate.proto"

# buf.alpha.image.v1.ImageFile.buf_extension {is_import: true}: buf neither lints nor compares
# such a file. Field 8042, length-delimited, holding field 1 = 1.
IS_IMPORT = bytes([0xD2, 0xF6, 0x03, 0x02, 0x08, 0x01])


def protoc(root: Path, *arguments: str) -> None:
    """Run protoc over everything below `root` with the third-party protos on its path."""
    with tempfile.TemporaryDirectory() as scratch:
        third_party = Path(scratch) / "validate.binpb"
        raw = validate_pb.desc().proto.to_binary()
        third_party.write_bytes(
            FileDescriptorSet(file=[FileDescriptorProto.FromString(raw)]).SerializeToString()
        )
        command = [sys.executable, "-m", "grpc_tools.protoc"]
        command += [f"-I{root}", f"-I{files('grpc_tools') / '_proto'}", f"-I{site_packages()}"]
        command += [f"--descriptor_set_in={third_party}", *arguments]
        bin_folder = str(Path(sys.executable).parent)
        path = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
        subprocess.run(command, check=True, env={**os.environ, "PATH": path})


def site_packages() -> Path:
    """The folder that holds google/api/*.proto."""
    import google.api.annotations_pb2 as annotations

    return Path(annotations.__file__).parents[2]


def own_protos(root: Path) -> list[str]:
    """The contracts below `root`, as protoc names them."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.proto"))


def write_image(root: Path, target: Path) -> None:
    """Write a descriptor image of the contracts below `root`, imports and comments included."""
    own = own_protos(root)
    flags = ["--include_imports", "--include_source_info", f"--descriptor_set_out={target}"]
    protoc(root, *flags, *own)
    image = FileDescriptorSet.FromString(target.read_bytes())
    for file in image.file:
        if file.name not in own:
            file.MergeFromString(IS_IMPORT)
    target.write_bytes(image.SerializeToString())


def write_python(target: Path) -> None:
    """Write visionmesh/v1 and visionmesh/buf/validate below `target`."""
    with tempfile.TemporaryDirectory() as scratch:
        outs = [f"--{kind}_out={scratch}" for kind in ("python", "grpc_python")]
        outs += [f"--{kind}_out=quiet:{scratch}" for kind in ("mypy", "mypy_grpc")]
        protoc(PROTOS, *outs, *own_protos(PROTOS))
        protoc(PROTOS, f"--python_out={scratch}", f"--mypy_out=quiet:{scratch}", VALIDATE)
        for source in sorted(Path(scratch).rglob("*_pb2*.py*")):
            name = source.relative_to(scratch)
            if name.parts[0] == "buf":
                name = Path("visionmesh") / name
            copy_generated(source, target / name)


def copy_generated(source: Path, target: Path) -> None:
    """Copy one generated module, sending imports of `buf` to where ours lives."""
    if source.name.startswith(("vision_", "process_")) and "_grpc" in source.name:
        return  # no service inside
    text = source.read_text()
    text = re.sub(r"\bfrom buf(\.validate)? import", r"from visionmesh.buf\1 import", text)
    text = re.sub(r"^import buf\.", "import visionmesh.buf.", text, flags=re.MULTILINE)
    text = re.sub(r"(?<![.\w])buf\.validate\.validate_pb2", "visionmesh.buf.validate.validate_pb2", text)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", type=Path, metavar="FOLDER")
    parser.add_argument("--image", type=Path, metavar="FILE")
    parser.add_argument("--root", type=Path, default=PROTOS, help="contracts to read for --image")
    options = parser.parse_args()
    if options.python:
        write_python(options.python)
    if options.image:
        write_image(options.root.resolve(), options.image)


if __name__ == "__main__":
    main()
