"""Host ports as crisp forwards them: reached from everywhere, for their own pod only, and gone with it.

The node has a neighbour on a link of its own; pods are dual stack, on a bridge without hairpin mode, beside rules of
iptables-legacy and iptables-nft.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from kernel.contracts.network import PortMapping
from kernel.host import syscalls
from kernel.host.aio import Deadline
from kernel.ids import SandboxId, new_id
from services.network import methods
from services.network.documents.hostport import Forward
from services.network.links import netns
from services.network.pods import forwarding
from tests.integration.network.conftest import Client, Node, run

NODE4, NODE6, NEXT4, NEXT6 = "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"
SERVE = """
import socket, sys, threading
name = sys.argv[1].encode()
tcp = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
udp.bind(("::", 8080))
def answer():
    while True:
        data, peer = udp.recvfrom(100)
        udp.sendto(name + b" " + peer[0].encode(), peer)
threading.Thread(target=answer, daemon=True).start()
print("up", flush=True)
while True:
    connection, peer = tcp.accept()
    connection.sendall(name + b" " + peer[0].encode())
    connection.close()
"""


def mapping(host_port: int, protocol: str = "tcp", host_ip: str = "", container_port: int = 8080) -> PortMapping:
    return PortMapping(protocol=protocol, container_port=container_port, host_port=host_port, host_ip=host_ip)


def tcp(address: str, port: int, timeout: float = 3.0) -> str:
    """Who answers: its name, and whom it sees."""
    with socket.create_connection((address, port), timeout=timeout) as connection:
        return connection.recv(100).decode()


def udp(address: str, port: int, source: int = 0, timeout: float = 3.0) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.bind(("", source))
        client.settimeout(timeout)
        client.connect((address, port))
        client.send(b"?")
        return client.recv(100).decode()


class Place:
    """A namespace to act from."""

    def __init__(self, pin: Path) -> None:
        self.pin = pin

    def __call__(self, act: Callable[..., str], *arguments: object, **more: object) -> str:
        """Do something there; refusals and time-outs are words too."""
        with self.inside():
            try:
                return act(*arguments, **more)
            except OSError as error:
                return type(error).__name__

    @contextmanager
    def inside(self) -> Iterator[None]:
        with open("/proc/thread-self/ns/net") as before, self.pin.open() as there:
            syscalls.setns(there.fileno(), syscalls.CLONE_NEWNET)
            try:
                yield
            finally:
                syscalls.setns(before.fileno(), syscalls.CLONE_NEWNET)

    def run(self, *argv: str) -> str:
        return run("nsenter", f"--net={self.pin}", *argv)


@contextmanager
def serving(pin: Path, name: str) -> Iterator[None]:
    """A server in a namespace."""
    argv = ["nsenter", f"--net={pin}", sys.executable, "-c", SERVE, name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"up\n"
            yield
        finally:
            server.kill()


@pytest_asyncio.fixture
async def neighbour(node: Node, tmp_path: Path) -> AsyncIterator[Place]:
    """Another host on the node's link, which routes to pods by way of the node."""
    pin = tmp_path / "neighbour"
    await netns.Spare().pin(pin, Deadline.after(20))
    try:
        there = Place(pin)
        run("ip", "link", "add", "next", "type", "veth", "peer", "name", "up0")
        run("ip", "link", "set", "up0", "netns", str(pin))
        for where, name, v4, v6 in ((run, "next", NODE4, NODE6), (there.run, "up0", NEXT4, NEXT6)):
            where("ip", "address", "add", f"{v4}/24", "dev", name)
            where("ip", "address", "add", f"{v6}/64", "dev", name, "nodad")
            where("ip", "link", "set", name, "up")
        there.run("ip", "route", "add", "default", "via", NODE4)
        there.run("ip", "-6", "route", "add", "default", "via", NODE6)
        legacy = ["iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-s", "203.0.113.0/24", "-j", "MASQUERADE"]
        subprocess.run(legacy, capture_output=True, check=False)  # not every kernel has it any more
        yield there
        run("ip", "link", "delete", "next")
    finally:
        await netns.remove(pin)


def tables() -> list[str]:
    return [line for line in run("nft", "list", "tables").splitlines() if "crisp-" in line]


def dual_stack(node: Node) -> None:
    """A bridge without hairpin mode, and no plugin for host ports."""
    plugin = node.bridge_plugin()
    plugin["hairpinMode"] = False
    plugin["ipam"] |= {
        "ranges": [[{"subnet": f"{node.subnet}.0/24"}], [{"subnet": "fd00:99::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    node.configure(plugin)


def loopback_taken(node: Node) -> str:
    return Path(f"/proc/sys/net/ipv4/conf/{node.bridge}/route_localnet").read_text().strip()


async def test_host_ports_from_everywhere(node: Node, client: Client, neighbour: Place) -> None:
    dual_stack(node)
    web, other = SandboxId(new_id()), SandboxId(new_id())
    mappings = (
        mapping(8081), mapping(8082, "udp"), mapping(8083, host_ip=NODE4), mapping(8084, host_ip=NODE6),
        mapping(8085, host_ip="127.0.0.1"), mapping(8086, host_ip="198.51.100.9"), mapping(8080),
    )  # fmt: skip
    first = await client.attach(web, *mappings)
    second = await client.attach(other)
    assert [":" in ip for ip in first.ips] == [False, True]
    gateway4, gateway6 = f"{node.subnet}.1", "fd00:99::1"
    inside, beside, here = Place(node.pin(web)), Place(node.pin(other)), Place(Path("/proc/thread-self/ns/net"))
    with serving(node.pin(web), "web"), serving(node.pin(other), "other"):
        # from another host, which the pod sees as it is
        assert neighbour(tcp, NODE4, 8081) == f"web ::ffff:{NEXT4}"
        assert neighbour(tcp, NODE6, 8081) == f"web {NEXT6}"
        assert neighbour(udp, NODE4, 8082) == f"web ::ffff:{NEXT4}"
        assert neighbour(udp, NODE6, 8082) == f"web {NEXT6}"
        # from the node: its own addresses, 127.0.0.1, and ::1 with a refusal at once
        for address in (NODE4, NODE6, gateway4, gateway6, "127.0.0.1", "127.1.2.3"):
            assert here(tcp, address, 8081).startswith("web "), address
            assert here(udp, address, 8082).startswith("web "), address
        assert here(tcp, "::1", 8081) == "ConnectionRefusedError"
        assert here(tcp, "localhost", 8081).startswith("web ")
        # from pods: the one that has the port, and one on the same link
        for address in (NODE4, NODE6, gateway4, gateway6):
            assert inside(tcp, address, 8081).startswith("web "), address
            assert beside(tcp, address, 8081).startswith("web "), address
            assert beside(udp, address, 8082).startswith("web "), address
        # by address of the node, and by no other
        assert neighbour(tcp, NODE4, 8083) == f"web ::ffff:{NEXT4}"
        assert neighbour(tcp, NODE6, 8083) == "ConnectionRefusedError"
        assert here(tcp, gateway4, 8083) == "ConnectionRefusedError"
        assert neighbour(tcp, NODE6, 8084) == f"web {NEXT6}"
        assert neighbour(tcp, NODE4, 8084) == "ConnectionRefusedError"
        assert here(tcp, "127.0.0.1", 8085).startswith("web ")
        assert neighbour(tcp, NODE4, 8085) == "ConnectionRefusedError"
        # traffic to others that passes the node is left alone, whatever port it is to
        assert neighbour(tcp, second.ips[0], 8080).startswith("other ")
        assert beside(tcp, first.ips[0], 8080) == f"web ::ffff:{second.ips[0]}"
        run("ip", "address", "add", "198.51.100.9/32", "dev", "lo")  # an address that comes later
        assert here(tcp, "198.51.100.9", 8086).startswith("web ")
    assert loopback_taken(node) == "1"
    await client.detach(web)
    assert here(tcp, NODE4, 8081) == "ConnectionRefusedError"
    assert (tables(), loopback_taken(node)) == ([], "0")
    await client.detach(other)


async def test_sctp_is_led_too(node: Node, client: Client, neighbour: Place, sandbox: SandboxId) -> None:
    """Told by a first packet of its own, as the kernel may know no sockets of it."""
    dual_stack(node)
    attached = await client.attach(sandbox, mapping(9900, "sctp", container_port=99))
    with Place(node.pin(sandbox)).inside():
        listening = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
    with neighbour.inside():
        sending = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
    with listening, sending:
        listening.settimeout(3)
        sending.sendto(sctp_init(4000, 9900), (NODE4, 0))
        packet = listening.recv(2000)
    assert socket.inet_ntoa(packet[16:20]) == attached.ips[0]
    assert struct.unpack_from("!HH", packet, 20) == (4000, 99)
    await client.detach(sandbox)


def sctp_init(source: int, port: int) -> bytes:
    """An INIT chunk, with its checksum (CRC-32C)."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 77, 65536, 1, 1, 1)
    head = struct.pack("!HHI", source, port, 0)
    crc = 0xFFFFFFFF
    for byte in head + bytes(4) + chunk:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return head + struct.pack("<I", crc ^ 0xFFFFFFFF) + chunk


async def test_a_network_without_a_bridge(node: Node, client: Client, neighbour: Place, sandbox: SandboxId) -> None:
    ipam = {"type": "host-local", "ranges": [[{"subnet": f"{node.subnet}.0/24"}]], "dataDir": str(node.leases)}
    node.configure({"type": "ptp", "ipam": ipam | {"routes": [{"dst": "0.0.0.0/0"}]}})
    await client.attach(sandbox, mapping(8081))
    with serving(node.pin(sandbox), "web"):
        assert neighbour(tcp, NODE4, 8081) == f"web ::ffff:{NEXT4}"
        assert tcp("127.0.0.1", 8081).startswith("web ")
        assert Place(node.pin(sandbox))(tcp, NODE4, 8081).startswith("web ")
    await client.detach(sandbox)


async def test_a_flow_of_udp_follows_the_port(node: Node, client: Client, neighbour: Place) -> None:
    """A client that never pauses is led to the pod that has the port now."""
    node.configure(node.bridge_plugin())
    pods = [SandboxId(new_id()) for _ in range(2)]
    assert neighbour(udp, NODE4, 8053, source=5353) == "ConnectionRefusedError"
    for name, sandbox in zip(("first", "second"), pods, strict=True):
        await client.attach(sandbox, mapping(8053, "udp"))
        with serving(node.pin(sandbox), name):
            assert neighbour(udp, NODE4, 8053, source=5353).split()[0] == name
        await client.detach(sandbox)
        assert neighbour(udp, NODE4, 8053, source=5353) == "ConnectionRefusedError"


async def test_pods_do_not_reach_the_nodes_loopback(node: Node, client: Client, sandbox: SandboxId) -> None:
    """route_localnet alone would let them (CVE-2020-8558)."""
    node.configure(node.bridge_plugin())
    await client.attach(sandbox, mapping(8081))
    pod = Place(node.pin(sandbox))
    pod.run("ip", "route", "delete", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
    pod.run("ip", "route", "add", "127.0.0.2/32", "via", f"{node.subnet}.1")
    pod.run("sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1")
    with socket.create_server(("127.0.0.2", 9000)) as secret:
        assert pod(tcp, "127.0.0.2", 9000, timeout=0.5) == "TimeoutError"
        (table,) = tables()
        run("nft", "delete", "chain", *table.split()[1:], "guard")
        secret.settimeout(3)
        with pod.inside(), socket.create_connection(("127.0.0.2", 9000), timeout=3):
            secret.accept()[0].close()  # without the guard they do
    await client.detach(sandbox)


async def test_rules_that_somebody_flushed_come_back(
    node: Node, sandbox: SandboxId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "_LOOK", 0.05)
    node.configure(node.bridge_plugin())
    client = Client(await methods.create(node.config))
    await client.attach(sandbox, mapping(8081))
    run("nft", "delete", *tables()[0].split())
    deadline = time.monotonic() + 10
    while not tables() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert "8081" in rules()
    await client.detach(sandbox)
    await client.service.close()


def rules() -> str:
    return run("nft", "list", "ruleset")


async def test_many_pods_are_elements_of_one_table(node: Node) -> None:
    made = forwarding.Forwarding(str(node.root), node.config.paths.network_state / "many.running")
    node.config.paths.network_state.mkdir(parents=True)
    pods = [SandboxId(f"{number:064x}") for number in range(20)]
    for number, pod in enumerate(pods):
        forward = Forward(
            protocol="tcp", host_ip="", host_port=10000 + number, address=f"10.7.0.{number + 2}", port=80,
            link="10.7.0.0/24",
        )  # fmt: skip
        await made.add(pod, (forward,), "", Deadline.after(20))
    before = run("nft", "list", "chains")
    assert (len(tables()), rules().count(" : 10.7.0.")) == (1, 20)
    for number, pod in enumerate(pods[:-1]):
        await made.remove(pod, Deadline.after(20))
        assert rules().count(" : 10.7.0.") == 19 - number
    assert run("nft", "list", "chains") == before
    await made.remove(pods[-1], Deadline.after(20))
    assert tables() == []
