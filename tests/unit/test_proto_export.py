"""What `vmesh protos export` writes is complete: it compiles, alone, to the contracts in use."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from typer.testing import CliRunner, Result

from visionmesh import __version__
from visionmesh.cli import app
from visionmesh.contracts import export

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"


def vmesh(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["protos", "export", *arguments])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(folder)
    return folder


def names_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.proto"))


def test_the_contracts_are_those_of_the_repository_byte_for_byte(exported: Path) -> None:
    own = names_below(PROTOS)
    assert own
    assert [name for name in names_below(exported) if name.startswith("visionmesh/")] == own
    for name in own:
        assert (exported / name).read_bytes() == (PROTOS / name).read_bytes(), name


def test_protoc_makes_the_descriptors_in_use_of_the_export_alone(exported: Path, tmp_path: Path) -> None:
    names, target = names_below(exported), tmp_path / "compiled.binpb"
    protoc("-I.", "--include_imports", f"--descriptor_set_out={target}", *names, cwd=exported)
    files = FileDescriptorSet.FromString(target.read_bytes()).file
    assert sorted(file.name for file in files) == names
    for file in files:
        in_use = FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(file.name).CopyToProto(in_use)
        assert without_json_names(file) == without_json_names(in_use), file.name


def test_what_clients_read_typed_errors_with_is_there(exported: Path) -> None:
    assert {"google/rpc/error_details.proto", "google/rpc/status.proto"} <= set(names_below(exported))


def test_protoc_generates_a_client(exported: Path, tmp_path: Path) -> None:
    names = [name for name in names_below(exported) if not name.startswith("google/protobuf/")]
    protoc("-I.", f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", *names, cwd=exported)
    assert (tmp_path / "visionmesh/v1/job_pb2_grpc.py").is_file()
    assert len(list(tmp_path.rglob("*_pb2.py"))) == len(names)


def test_buf_builds_the_export_alone(exported: Path) -> None:
    buf = Path(sys.executable).parent / "buf"
    built = subprocess.run([buf, "build"], cwd=exported, check=False, capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")


def test_the_command_says_what_it_wrote_and_where_to_read_on(tmp_path: Path) -> None:
    ran = vmesh(str(tmp_path / "a" / "protos"))
    assert ran.exit_code == 0, ran.output
    count = len(names_below(tmp_path))
    assert f"Wrote {count} contracts" in ran.stdout
    assert f"visionmesh/v1 ({len(names_below(PROTOS))})" in ran.stdout
    readme = tmp_path / "a" / "protos" / "README.md"
    assert str(readme) in ran.stdout
    assert readme.read_text().startswith(f"# The contracts of VisionMesh {__version__}\n")


def test_the_readme_and_the_documentation_give_the_same_lines(exported: Path) -> None:
    languages = (exported / "README.md").read_text().partition("### ")[2]
    assert "TypeScript" in languages
    assert languages in (ROOT / "docs" / "languages.md").read_text()


def test_a_folder_that_is_not_empty_is_left_alone_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    ran = vmesh(str(tmp_path))
    assert ran.exit_code == 2
    assert "not empty: it holds README.md" in ran.stderr
    assert "--force" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "other.txt").write_text("stays")
    assert vmesh(str(tmp_path), "--force").exit_code == 0
    assert (tmp_path / "README.md").read_text() != "mine"
    assert (tmp_path / "other.txt").read_text() == "stays"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "protos").write_text("mine")
    for force in ([], ["--force"]):
        ran = vmesh(str(tmp_path / "protos"), *force)
        assert ran.exit_code == 2
        assert "is a file; the contracts need a folder" in ran.stderr
    assert (tmp_path / "protos").read_text() == "mine"


def test_help_has_an_example() -> None:
    ran = vmesh("--help")
    assert ran.exit_code == 0
    assert "vmesh protos export" in ran.stdout.partition("Example")[2]


def protoc(*arguments: str, cwd: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *arguments],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr


def without_json_names(file: FileDescriptorProto) -> FileDescriptorProto:
    """`file` without what protoc adds by itself, and compiled Python leaves out."""
    plain = FileDescriptorProto()
    plain.CopyFrom(file)
    fields, messages = [*plain.extension], [*plain.message_type]
    while messages:
        message = messages.pop()
        fields += [*message.field, *message.extension]
        messages += message.nested_type
    for field in fields:
        field.ClearField("json_name")
    return plain
