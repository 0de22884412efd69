"""A real S3 for tests: Ceph's monitor, one OSD in memory and its RADOS gateway, on free loopback ports."""

import itertools
import json
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from botocore.config import Config

from visionmesh.storage import S3Settings, read_s3_settings

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
INSTALL = "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd"
_numbers = itertools.count(1)
_READY_SECONDS = 60.0
_COMMAND_SECONDS = 60.0

_CONFIGURATION = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}]
public addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}
admin socket =
log file = {folder}/$name.log
pid file =
crash dir = {folder}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
mon data = {folder}/mon
mon allow pool size one = true
mon allow pool delete = true
mon max pg per osd = 1000
mon osd down out interval = 0
mon osd report timeout = 86400
osd heartbeat grace = 86400
mon warn on pool no redundancy = false
paxos propose interval = 0.05
paxos min wait = 0.01
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {memory_bytes}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable usage log = false
rgw run sync thread = false
rgw dns name =
rgw thread pool size = 64
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw gc processor max time = 5
"""

_KEYRING = {
    "mon.": ["mon", "allow *"],
    "client.admin": ["mon", "allow *", "osd", "allow *", "mgr", "allow *"],
    "osd.0": ["mon", "allow profile osd", "osd", "allow *"],
}


class CephServer:
    """A gateway that runs, one user, and buckets of his."""

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        self._folder = folder
        self.port, mon_port = _free_port(), _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.access_key, self.secret_key = secrets.token_hex(10).upper(), secrets.token_hex(20)
        self.fsid = str(uuid4())
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "ceph.conf").write_text(
            _CONFIGURATION.format(
                fsid=self.fsid, folder=folder, mon_port=mon_port, port=self.port, memory_bytes=memory_bytes
            )
        )
        self._address = f"[v2:127.0.0.1:{mon_port}]"

    @property
    def variables(self) -> dict[str, str]:
        """Environment of a process that may use it."""
        return {
            "STORAGE_ENDPOINT": self.endpoint,
            "STORAGE_ACCESS_KEY": self.access_key,
            "STORAGE_SECRET_KEY": self.secret_key,
        }

    @property
    def settings(self) -> S3Settings:
        """The same, for a store in this process."""
        return read_s3_settings(environ=self.variables)

    def start(self) -> None:
        """Start monitor, OSD and gateway; wait until it answers."""
        self._make_monitor()
        self._spawn("mon", "ceph-mon", "-i", "a")
        self._make_osd()
        self._spawn("osd", "ceph-osd", "-i", "0")
        self._spawn("rgw", "radosgw", "-n", "client.admin")
        keys = ("--access-key", self.access_key, "--secret-key", self.secret_key)
        self._run("radosgw-admin", "user", "create", "--uid", "mesh", "--display-name", "mesh", *keys)
        self._wait_ready()

    def _make_monitor(self) -> None:
        keyring = str(self._folder / "keyring")
        self._run("ceph-authtool", keyring, "--create-keyring")
        for name, capabilities in _KEYRING.items():
            pairs = zip(capabilities[::2], capabilities[1::2], strict=True)
            caps = [word for kind, allowed in pairs for word in ("--cap", kind, allowed)]
            self._run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
        monmap = str(self._folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", self._address, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)

    def _make_osd(self) -> None:
        uuid = str(uuid4())
        (self._folder / "osd").mkdir()
        self._run("ceph", "osd", "create", uuid, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            for name, daemon in self._daemons.items():
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Ceph's {name} is not there: {self._last_words(name)}")
            time.sleep(0.02)

    def new_bucket(self, name: str = "") -> str:
        """A new bucket; its name."""
        name = name or f"bucket-{next(_numbers)}"
        self._client().create_bucket(Bucket=name)
        return name

    def _client(self) -> Any:
        known = self.settings
        return boto3.client(
            "s3", endpoint_url=known.endpoint, region_name="us-east-1", config=Config(proxies={}),
            aws_access_key_id=known.access_key, aws_secret_access_key=known.secret_key,
        )  # fmt: skip

    def new_user(self) -> S3Settings:
        """Somebody who owns nothing."""
        user, secret = f"user{next(_numbers)}", secrets.token_hex(20)
        keys = ("--access-key", user, "--secret-key", secret)
        self._run("radosgw-admin", "user", "create", "--uid", user, "--display-name", user, *keys)
        return S3Settings(self.endpoint, access_key=user, secret_key=secret)

    def let_list(self, bucket: str, who: S3Settings) -> None:
        """Let somebody see what is in a bucket, and no more."""
        rule = {
            "Effect": "Allow",
            "Principal": {"AWS": [f"arn:aws:iam:::user/{who.access_key}"]},
            "Action": "s3:ListBucket",
            "Resource": f"arn:aws:s3:::{bucket}",
        }
        policy = {"Version": "2012-10-17", "Statement": [rule]}
        self._client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP to the OSD: the gateway takes requests and answers none that needs data."""
        self._daemons["osd"].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._daemons["osd"].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGKILL: an OSD in memory has nothing to save, and takes long for it."""
        for daemon in self._daemons.values():
            daemon.kill()
        for daemon in self._daemons.values():
            daemon.wait(_COMMAND_SECONDS)

    def _spawn(self, name: str, program: str, *arguments: str) -> None:
        with (self._folder / f"{name}.err").open("wb") as errors:
            self._daemons[name] = subprocess.Popen(
                [program, "-c", str(self._folder / "ceph.conf"), "-f", *arguments],
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
            )  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        command = [program, "-c", str(self._folder / "ceph.conf"), *arguments]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, timeout=_COMMAND_SECONDS)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.decode(errors='replace')[-2000:]}")

    def _last_words(self, name: str) -> str:
        return (self._folder / f"{name}.err").read_text(errors="replace")[-2000:]


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serving(memory_bytes: int = 4 * 2**30) -> Iterator[CephServer]:
    """A server that runs until the context is left; its objects are in memory, `memory_bytes` at most."""
    folder = Path(tempfile.mkdtemp(prefix="visionmesh-ceph-"))
    server = CephServer(folder, memory_bytes)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
