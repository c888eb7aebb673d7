"""What is said of pods' networks is what the kernel has."""

from __future__ import annotations

from kernel.contracts.network import DescribeRequest, PodNetwork, PortMapping
from kernel.ids import SandboxId
from tests.integration.network.conftest import Client, FakeCall, Node, run
from tests.integration.network.test_methods import PASS, reboot


async def described(client: Client, *, check: bool = False) -> PodNetwork:
    (pod,) = (await client.service.describe(DescribeRequest(check=check), FakeCall())).pods
    return pod


async def test_a_pod_is_described(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure(node.bridge_plugin())
    assert (await client.service.describe(DescribeRequest(), FakeCall())).pods == ()
    mapping = PortMapping(protocol="tcp", container_port=80, host_port=8081, host_ip="127.0.0.1")
    (ip,) = (await client.attach(sandbox, mapping)).ips
    pod = await described(client)
    assert (pod.sandbox_id, pod.pod, pod.network, pod.ips) == (sandbox, "test/web", node.bridge, (ip,))
    assert pod.host_ports == ("127.0.0.1:8081/tcp -> 80",)
    found = {interface.name: interface for interface in pod.interfaces}
    assert f"{ip}/24" in found["eth0"].addresses
    assert found["lo"].addresses[0] == "127.0.0.1/8"
    assert {(route.to, route.via, route.interface) for route in pod.routes} >= {
        ("0.0.0.0/0", f"{node.subnet}.1", "eth0"),
        (f"{node.subnet}.0/24", "", "eth0"),
    }
    assert pod.problem == ""
    run("nsenter", f"--net={node.pin(sandbox)}", "ip", "address", "flush", "dev", "eth0")
    assert (await described(client)).problem == f"{ip}/24 is not in its namespace"
    await reboot(node, sandbox)
    pod = await described(client)
    assert (pod.interfaces, pod.problem) == ((), "its network namespace is gone")
    await client.detach(sandbox)


async def test_plugins_check_what_they_made(node: Node, client: Client, sandbox: SandboxId) -> None:
    objects = 'test "$CNI_COMMAND" = CHECK && cat > "$LOG.stdin" && test -e "$LOG.bad" && echo objection >&2 && exit 1'
    node.configure(node.bridge_plugin(), node.script("checker", f"{objects}; {PASS}"))
    await client.attach(sandbox)
    assert (await described(client, check=True)).problem == ""
    assert '"prevResult"' in (node.root / "checker.log.stdin").read_text()
    (node.root / "checker.log.bad").touch()
    said = (await described(client, check=True)).problem
    assert said.startswith("plugin checker: exit status 1: objection (CHECK for network")
    assert (await described(client)).problem == ""
    await client.detach(sandbox)
    assert node.asked("checker") == ["ADD", "CHECK", "CHECK", "DEL"]


async def test_check_is_not_for_old_networks_or_those_that_forbid_it(
    node: Node, client: Client, sandbox: SandboxId
) -> None:
    node.configure(node.bridge_plugin(), node.script("old", PASS), version="0.3.1")
    await client.attach(sandbox)
    assert (await described(client, check=True)).problem == ""
    await client.detach(sandbox)
    assert node.asked("old") == ["ADD", "DEL"]
