"""The committed Python is what the contracts say."""

import filecmp
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from visionmesh.v1 import dataset_pb2, job_pb2, progress_pb2, result_pb2, runner_pb2

ROOT = Path(__file__).parents[2]
SERVICES = [
    service
    for module in (dataset_pb2, job_pb2, progress_pb2, result_pb2, runner_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]


def test_generating_again_gives_what_is_committed(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "protos" / "generate.py"), "--python", str(tmp_path)]
    subprocess.run(command, check=True)
    generated = {path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*")}
    committed = {
        path.relative_to(ROOT) for path in (ROOT / "visionmesh").rglob("*_pb2*.py*") if path.suffix != ".pyc"
    }
    assert generated == committed, "run `make protos`"
    different = [name for name in generated if not filecmp.cmp(tmp_path / name, ROOT / name, shallow=False)]
    assert different == [], "run `make protos`"


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_rpc_that_is_not_bidirectional_has_a_rest_form(service: ServiceDescriptor) -> None:
    for method in service.methods:
        bidirectional = method.client_streaming and method.server_streaming
        annotated = any(field.name == "http" for field, _value in method.GetOptions().ListFields())
        assert annotated != bidirectional, method.full_name
