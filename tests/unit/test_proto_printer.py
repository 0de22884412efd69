"""A compiled file, printed and compiled again, is the same file."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from visionmesh.contracts.printer import proto_source
from visionmesh.contracts.sources import proto_files

PROTO2 = r"""
syntax = "proto2";
package test.two;
import "buf/validate/validate.proto";
import public "google/protobuf/any.proto";
import weak "google/protobuf/empty.proto";
option java_package = "a.\"b\"\n\\c";
option optimize_for = LITE_RUNTIME;
message Everything {
  option deprecated = true;
  message First { extensions 4, 10 to 19 [verification = UNVERIFIED]; extensions 100 to max; }
  map<string, First> by_name = 1 [deprecated = true, json_name = "names"];
  message Second { required bytes raw = 1 [default = "\001\"\'\\\377"]; }
  map<int64, double> by_number = 2;
  optional string text = 3 [default = "say \"hé\"\n\\", ctype = CORD];
  oneof either {
    option (buf.validate.oneof).required = true;
    float low = 4 [default = -inf];
    Second second = 5;
  }
  repeated sint64 packed = 6 [packed = true, (buf.validate.field).repeated = {min_items: 1, unique: true}];
  optional Kind kind = 7 [default = KIND_B];
  optional double tiny = 8 [default = 1e-300,
    (buf.validate.field).double = {gte: 0.1, lt: inf, finite: true}];
  optional bool on = 9 [default = true];
  enum Kind { option allow_alias = true; KIND_A = 0; KIND_B = -3 [deprecated = true]; KIND_C = -3;
    reserved -9 to -5, 7, 20 to max; reserved "KIND_Z"; }
  reserved 20, 30 to 39, 1000 to max;
  reserved "gone", "lost";
  extend First { optional string nested_extension = 100; }
}
extend Everything.First {
  repeated Everything other = 10;
  optional uint32 count = 4 [default = 7];
}
"""

PROTO3 = r"""
syntax = "proto3";
package test.three;
import "google/protobuf/empty.proto";
import "google/protobuf/descriptor.proto";
message Empty {}
message Note { string text = 1; repeated int32 numbers = 2; map<string, Note> notes = 3; }
extend google.protobuf.MethodOptions {
  Note note = 50001;
  repeated string tags = 50002;
  optional int32 level = 50003;
}
message Request {
  optional int32 maybe = 1;
  oneof choice { Empty empty = 2; string text_value = 3; }
  optional string also = 4;
  repeated fixed64 many_of_them = 5;
  string HTTPName_2x = 6;
}
service Service {
  option deprecated = true;
  rpc Plain(Request) returns (google.protobuf.Empty);
  rpc Both(stream Request) returns (stream Empty) {
    option (note) = {text: "a 'b' \"c\"", numbers: [1, -2], notes: {key: "k" value: {text: "é"}}};
    option (tags) = "one";
    option (tags) = "two";
    option (level) = -5;
    option idempotency_level = NO_SIDE_EFFECTS;
  }
}
"""

EDITION = r"""
edition = "2023";
package test.edition;
import "google/protobuf/descriptor.proto";
option features.field_presence = IMPLICIT;
message Told {
  string plain = 1;
  string present = 2 [features.field_presence = EXPLICIT];
  repeated int32 numbers = 3 [features.repeated_field_encoding = EXPANDED];
  Told inner = 4 [features.message_encoding = DELIMITED];
  reserved gone, lost;
}
enum Closed { option features.enum_type = CLOSED; ONE = 1; reserved TWO; }
"""


GIVEN = "test/given.proto"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An import root with all that the contracts import."""
    folder = tmp_path_factory.mktemp("protos")
    (folder / "test").mkdir()
    for name, content in proto_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def compiled(root: Path, *names: str) -> FileDescriptorSet:
    """What protoc makes of files below `root`, imports included."""
    target = root / "compiled.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", "--include_imports"]
    subprocess.run([*command, f"--descriptor_set_out={target}", *names], check=True)
    return FileDescriptorSet.FromString(target.read_bytes())


def knowing(files: FileDescriptorSet) -> Any:
    """A FileDescriptorProto class that knows the extensions in `files`."""
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(FileDescriptorProto.DESCRIPTOR.full_name)
    )


@pytest.mark.parametrize("source", [PROTO2, PROTO3, EDITION], ids=["proto2", "proto3", "edition 2023"])
def test_everything_survives_printing(root: Path, source: str) -> None:
    (root / GIVEN).write_text(source)
    before = compiled(root, GIVEN)
    known = knowing(before)
    given = known.FromString(before.file[-1].SerializeToString())
    (root / GIVEN).write_text(proto_source(given))
    again = compiled(root, GIVEN)
    assert known.FromString(again.file[-1].SerializeToString()) == given


def test_an_extension_that_is_not_loaded_is_refused_and_not_dropped(root: Path) -> None:
    (root / GIVEN).write_text(PROTO3)
    file = compiled(root, GIVEN).file[-1]
    with pytest.raises(ValueError, match="extensions that are not loaded"):
        proto_source(FileDescriptorProto.FromString(file.SerializeToString()))


@pytest.mark.parametrize(
    "syntax", [{"syntax": "proto4"}, {"syntax": "editions", "edition": "EDITION_2024"}], ids=str
)
def test_other_syntaxes_are_refused(syntax: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"new\.proto is in a syntax"):
        proto_source(FileDescriptorProto(name="new.proto", **syntax))


def test_a_group_is_refused() -> None:
    file = FileDescriptorProto(name="old.proto")
    group = FieldDescriptorProto.TYPE_GROUP
    file.message_type.add(name="Old").field.add(name="parts", number=1, type=group, type_name=".Old.Parts")
    with pytest.raises(ValueError, match="group parts"):
        proto_source(file)
