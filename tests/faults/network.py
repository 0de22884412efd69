"""Two hosts on this machine and a link between them: to be cut, made lossy or slow, or to go one way only.

Each host is a network namespace, the link a pair of veth interfaces. A scheduler listens on loopback and
nowhere else while nobody logs in, so its host passes on to loopback what arrives for it.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

from fault_mesh import FRAMEWORK, FaultMesh, Process

SCHEDULER, RUNNER = "192.0.2.1", "192.0.2.2"
"""Addresses on the link; nobody else can see them."""

_COMMAND_SECONDS = 20.0
_LINK, _CONTROL = "uplink", "control"


class Host:
    """One end of the link."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command that is to run here."""
        return ("nsenter", f"--net=/run/netns/{self._namespace}")

    async def ip(self, *arguments: str) -> None:
        """Run iproute2's `ip` here."""
        await run("ip", "-netns", self._namespace, *arguments)

    async def nft(self, rules: str) -> None:
        """Apply nftables rules here."""
        await run(*self.prefix, "nft", rules)

    async def unplug(self) -> None:
        """Take this end's interface down: neither end hears the other."""
        await self.ip("link", "set", _LINK, "down")

    async def plug_in(self) -> None:
        """Bring it up again."""
        await self.ip("link", "set", _LINK, "up")

    async def lose(self, percent: int) -> None:
        """Drop that share of the packets that arrive over the link, at random; 100 makes it deaf."""
        which = f"numgen random mod 100 < {percent}" if percent < 100 else ""
        rule = f"; add rule netdev faults arriving {which} drop" if percent else ""
        await self.nft(f"flush chain netdev faults arriving{rule}")

    async def slow(self, kbit: int) -> None:
        """Send no more than that many kilobits a second over the link; a queue of a second, then loss."""
        shape = f"tbf rate {kbit}kbit burst 4kb latency 1s"
        await run(*self.prefix, "tc", "qdisc", "replace", "dev", _LINK, "root", *shape.split())


class Network:
    """The two hosts, and the address at which a test itself reaches the scheduler, past the link."""

    def __init__(self, scheduler: Host, runner: Host, control: str) -> None:
        self.scheduler, self.runner, self.control = scheduler, runner, control


class LinkedMesh(FaultMesh):
    """A mesh whose scheduler is on one host, and whose agents are on the other."""

    def __init__(self, folder: Path, network: Network) -> None:
        super().__init__(folder)
        self._network = network
        self.prefixes["scheduler"] = network.scheduler.prefix

    async def scheduler(self, **settings: object) -> Process:
        process = await super().scheduler(**settings)
        self.address = f"{self._network.control}:{self._port}"
        return process

    async def agent(self, runner_id: str, framework: str = FRAMEWORK, *flags: str) -> Process:
        self.prefixes[runner_id] = self._network.runner.prefix
        return await super().agent(runner_id, framework, "--scheduler", f"{SCHEDULER}:{self._port}", *flags)

    async def agent_beside_the_scheduler(self, runner_id: str) -> Process:
        """An agent that needs no link."""
        self.prefixes[runner_id] = self._network.scheduler.prefix
        return await super().agent(runner_id, FRAMEWORK, "--scheduler", f"127.0.0.1:{self._port}")


@asynccontextmanager
async def linked_hosts() -> AsyncIterator[Network]:
    """Two hosts with a link that works. Needs root, iproute2 and nftables."""
    name = f"vm{secrets.token_hex(4)}"
    scheduler, runner = Host(f"{name}s"), Host(f"{name}r")
    subnet = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"  # for tests of networks
    try:
        await _connect(name, scheduler, runner, subnet)
        yield Network(scheduler, runner, f"{subnet}.1")
    finally:
        await _remove(name)


async def _remove(name: str) -> None:
    if _exists(f"/sys/class/net/{name}"):
        await run("ip", "link", "delete", name)
    for end in ("s", "r"):  # the link goes with them
        if _exists(f"/run/netns/{name}{end}"):
            await run("ip", "netns", "delete", f"{name}{end}")


def _exists(path: str) -> bool:
    return Path(path).exists()


async def _connect(name: str, scheduler: Host, runner: Host, subnet: str) -> None:
    await run("ip", "netns", "add", f"{name}s")
    await run("ip", "netns", "add", f"{name}r")
    pair = ("type", "veth", "peer", "name")
    await run("ip", "link", "add", _LINK, "netns", f"{name}s", *pair, _LINK, "netns", f"{name}r")
    await run("ip", "link", "add", name, *pair, _CONTROL, "netns", f"{name}s")
    for host, address, device in (
        (scheduler, SCHEDULER, _LINK),
        (scheduler, f"{subnet}.1", _CONTROL),
        (runner, RUNNER, _LINK),
    ):
        await host.ip("address", "add", f"{address}/24", "dev", device)
        await host.ip("link", "set", device, "up")
        await host.ip("link", "set", "lo", "up")
    await run("ip", "address", "add", f"{subnet}.2/24", "dev", name)
    await run("ip", "link", "set", name, "up")
    for host in (scheduler, runner):
        await host.nft(
            "add table netdev faults; add chain netdev faults arriving "
            f"{{ type filter hook ingress device {_LINK} priority 0; }}"
        )
    await _lead_to_loopback(scheduler)


async def _lead_to_loopback(host: Host) -> None:
    allow = "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"
    await run(*host.prefix, "sh", "-c", allow)
    await host.nft(
        "add table ip entrance; "
        "add chain ip entrance arriving { type nat hook prerouting priority dstnat; }; "
        f"add rule ip entrance arriving iifname {{ {_LINK}, {_CONTROL} }} dnat to 127.0.0.1"
    )


async def run(*command: str) -> None:
    """Run a command to its end. Raises AssertionError with what it said if it fails."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_COMMAND_SECONDS):
        said, _ = await child.communicate()
    assert child.returncode == 0, f"{' '.join(command)}: {said.decode(errors='replace')}"


class FarAway:
    """Carries connections to a port of this machine as slowly as a long way: `delay` s in each direction."""

    def __init__(self, port: int, delay: float) -> None:
        self._port, self._delay = port, delay
        self._carrying: list[asyncio.Task[None]] = []

    @property
    def connections(self) -> int:
        """So many were opened."""
        return len(self._carrying)

    @asynccontextmanager
    async def address(self) -> AsyncIterator[str]:
        """Where it listens meanwhile."""
        async with await asyncio.start_server(self._accept, "127.0.0.1", 0) as server:
            try:
                yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            finally:
                for task in self._carrying:
                    task.cancel()
                await asyncio.gather(*self._carrying, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._carrying.append(asyncio.create_task(self._carry(reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self._delay)  # TCP's own handshake
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            while data := await reader.read(65536):
                await asyncio.sleep(self._delay)
                writer.write(data)
