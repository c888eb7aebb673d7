"""Pods join and leave whatever plugins do: answers that are lies, processes that will not go."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
import time
from pathlib import Path

import msgspec
import pytest

from kernel.contracts.network import AttachRequest, PortMapping
from kernel.errors import DeadlineExceeded, Internal
from kernel.ids import SandboxId, new_id
from services.network import methods
from tests.integration.network.conftest import Client, FakeCall, Node, pod, run
from tests.integration.network.test_methods import PASS

DEL = 'test "$CNI_COMMAND" = DEL && exit 0; '


def answering(node: Node, name: str, answer: str) -> dict[str, object]:
    return node.script(name, f"{DEL}cat >/dev/null; cat <<END\n{answer}\nEND")


async def test_an_address_belongs_to_one_pod(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure(answering(node, "same", '{"ips": [{"address": "10.9.9.9/24"}]}'))
    await client.attach(sandbox)
    for later in (client, Client(await methods.create(node.config))):  # also in another life of the worker
        with pytest.raises(Internal, match=rf"address 10.9.9.9 belongs to pod test/web \(sandbox {sandbox[:13]}\)"):
            await later.attach(SandboxId(new_id()))
    await later.service.close()
    await client.detach(sandbox)
    second = SandboxId(new_id())
    assert (await client.attach(second)).ips == ("10.9.9.9",)
    await client.detach(second)


async def test_an_address_of_a_pod_that_cannot_be_undone_is_free(
    node: Node, client: Client, sandbox: SandboxId
) -> None:
    """Whether it is given again is the plugins' affair then."""
    broken = f'test "$CNI_COMMAND" = DEL && test -e {node.root}/broken && exit 1; '
    node.configure(node.script("stiff", f'{broken}{DEL}echo \'{{"ips": [{{"address": "10.9.9.9/24"}}]}}\''))
    await client.attach(sandbox)
    (node.root / "broken").touch()
    with pytest.raises(Internal, match="plugin stiff"):
        await client.detach(sandbox)
    (node.root / "broken").unlink()
    again = Client(await methods.create(node.config))
    second = SandboxId(new_id())
    assert (await again.attach(second)).ips == ("10.9.9.9",)
    for each in (sandbox, second):
        await again.detach(each)
    await again.service.close()


async def test_the_hosts_own_address_is_no_pods(node: Node, client: Client, sandbox: SandboxId) -> None:
    run("ip", "address", "add", "192.0.2.77/32", "dev", "lo")
    node.configure(answering(node, "thief", '{"ips": [{"address": "192.0.2.77/24"}]}'))
    with pytest.raises(Internal, match=r"address 192.0.2.77 is the host's own"):
        await client.attach(sandbox)
    assert node.asked("thief") == ["ADD", "DEL"]


async def test_an_interface_elsewhere_is_no_pods(node: Node, client: Client, sandbox: SandboxId) -> None:
    foreign = (
        '{"interfaces": [{"name": "eth0", "sandbox": "/proc/1/ns/net"}],'
        ' "ips": [{"address": "10.9.9.9/24", "interface": 0}]}'
    )
    node.configure(answering(node, "foreign", foreign))
    with pytest.raises(Internal, match=r"^plugin foreign: malformed result: ips\[0\]: its interface is in '/proc/1/ns"):
        await client.attach(sandbox)
    assert node.asked("foreign") == ["ADD", "DEL"]


async def test_the_primary_address_is_of_the_family_that_is_wished(node: Node, sandbox: SandboxId) -> None:
    node.configure(answering(node, "both", '{"ips": [{"address": "10.9.9.9/24"}, {"address": "fd00::9/64"}]}'))
    for family, first in (("cni", "10.9.9.9"), ("ipv6", "fd00::9"), ("ipv4", "10.9.9.9")):
        network = msgspec.structs.replace(node.config.network, primary_family=family)
        client = Client(await methods.create(msgspec.structs.replace(node.config, network=network)))
        assert (await client.attach(sandbox)).ips[0] == first
        await client.service.close()
    client = Client(await methods.create(node.config))
    await client.detach(sandbox)
    await client.service.close()


async def test_nothing_of_a_plugin_that_hangs_is_left(node: Node, sandbox: SandboxId) -> None:
    """A child in a session of its own that keeps the descriptors, and one that closed them all."""
    impatient = msgspec.structs.replace(node.config.network, timeout=4)
    ready = f"""import os, time; open('{node.root}/' + NAME, 'w').write(str(os.getpid())); time.sleep(60)"""
    closed = f"import os; os.closerange(0, 100); {ready}"
    children = [f'setsid {sys.executable} -c "{ready}" &', f'setsid {sys.executable} -c "{closed}" &']
    children = [child.replace("NAME", f"'{name}'") for child, name in zip(children, ("one", "two"), strict=True)]
    node.configure(node.script("hydra", f"{DEL}{' '.join(children)} sleep 63"))
    client = Client(await methods.create(msgspec.structs.replace(node.config, network=impatient)))
    with pytest.raises(DeadlineExceeded, match="plugin hydra: did not end in time and was killed"):
        await client.attach(sandbox)
    for name in ("one", "two"):
        pid = (node.root / name).read_text().strip()
        assert not Path("/proc", pid).exists() or "State:\tZ" in Path("/proc", pid, "status").read_text()
    await client.service.close()


async def test_a_gigabyte_on_both_outputs_costs_no_memory(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure(
        node.script("flood", f"{DEL}head -c 500000000 /dev/zero >&2 & head -c 500000000 /dev/zero; wait; exit 1")
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Internal, match="plugin flood: answered more than 1048576 bytes"):
        await client.attach(sandbox)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


async def test_others_go_on_while_one_hangs(node: Node, client: Client, sandbox: SandboxId) -> None:
    gate = node.root / "gate"
    hang = f'test "$CNI_CONTAINERID" = {sandbox} && while test ! -e {gate}; do sleep 0.05; done; {PASS}'
    node.configure(node.bridge_plugin(), node.script("picky", hang))
    stuck = asyncio.get_running_loop().create_task(client.attach(sandbox))
    for _ in range(3):
        other = SandboxId(new_id())
        await client.attach(other)
        await client.detach(other)
    assert not stuck.done()
    gate.touch()
    await stuck
    await client.detach(sandbox)


async def test_odd_names_stay_arguments(node: Node, client: Client, sandbox: SandboxId) -> None:
    """What a pod is called and what its annotations say reach plugins as they are, and no shell or rule."""
    name = "$(touch /tmp/owned) `id` \"' -j ACCEPT } add table x {"
    node.configure(node.bridge_plugin(), node.script("tell", f'echo "$CNI_ARGS" > "$LOG.args"; {PASS}'))
    request = AttachRequest(
        sandbox_id=sandbox, name=name, namespace="n", uid="u", annotations={"a": name},
        port_mappings=(PortMapping(protocol="tcp", container_port=80, host_port=8081),),
    )  # fmt: skip
    await client.service.attach(request, FakeCall())
    assert f"K8S_POD_NAME={name};" in (node.root / "tell.log.args").read_text()
    assert not os.path.exists("/tmp/owned")
    assert "ACCEPT }" not in run("nft", "list", "ruleset")
    await client.detach(sandbox)


async def test_rogue_router_advertisements_are_not_heard(node: Node, client: Client, sandbox: SandboxId) -> None:
    """A pod takes no IPv6 route from whoever says to be a router on its link (CVE-2020-10749)."""
    node.configure(node.bridge_plugin())
    await client.attach(sandbox)

    def routes() -> str:
        return run("nsenter", f"--net={node.pin(sandbox)}", "ip", "-6", "route", "show", "default")

    def settled(what: str, *argv: str) -> None:
        deadline = time.monotonic() + 10
        while "tentative" in (said := run(*argv)) or "fe80" not in said:
            assert time.monotonic() < deadline, what
            time.sleep(0.05)

    link_local = ("ip", "-6", "address", "show", "scope", "link", "dev")
    settled("the bridge has its address", *link_local, node.bridge)
    settled("the pod has its address", "nsenter", f"--net={node.pin(sandbox)}", *link_local, "eth0")
    advertisement = bytes((134, 0, 0, 0, 64, 0)) + (1800).to_bytes(2, "big") + bytes(8)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as router:
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        everyone = ("ff02::1", 0, 0, socket.if_nametoindex(node.bridge))
        router.sendto(advertisement, everyone)
        with pytest.raises(ConnectionRefusedError):  # what was sent before has come by then
            socket.create_connection((f"{node.subnet}.2", 9), timeout=5)
        assert routes() == ""
        run("nsenter", f"--net={node.pin(sandbox)}", "sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=2")
        router.sendto(advertisement, everyone)
        deadline = time.monotonic() + 10
        while not routes():  # one that listens does hear them
            assert time.monotonic() < deadline
            time.sleep(0.05)
    await client.detach(sandbox)


async def test_a_pod_may_wish_for_its_addresses(node: Node, client: Client, sandbox: SandboxId) -> None:
    """Real plugins that declare the capabilities: static for the address, bridge for the hardware address."""
    plugin = node.bridge_plugin() | {"capabilities": {"ips": True, "mac": True}, "ipam": {"type": "static"}}
    node.configure(plugin)
    annotations = {"cni.crisp/ips": f"{node.subnet}.77/24", "cni.crisp/mac": "02:00:00:00:00:77"}
    request = msgspec.structs.replace(pod(sandbox), annotations=annotations)
    assert (await client.service.attach(request, FakeCall())).ips == (f"{node.subnet}.77",)
    inside = run("nsenter", f"--net={node.pin(sandbox)}", "ip", "address", "show", "eth0")
    assert "02:00:00:00:00:77" in inside
    assert f"{node.subnet}.77/24" in inside
    await client.detach(sandbox)


async def test_a_pods_bandwidth_is_limited(node: Node, client: Client, sandbox: SandboxId) -> None:
    """By the real plugin, which is told of the pod's annotation; and nothing of it is left."""
    node.configure(node.bridge_plugin(), {"type": "bandwidth", "capabilities": {"bandwidth": True}})
    annotations = {"kubernetes.io/ingress-bandwidth": "10M"}
    await client.service.attach(msgspec.structs.replace(pod(sandbox), annotations=annotations), FakeCall())
    assert "rate 10Mbit" in run("tc", "qdisc", "show")
    await client.detach(sandbox)
