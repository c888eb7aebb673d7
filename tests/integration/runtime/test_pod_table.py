"""Pods: shared namespaces, their files, and pods that share a PID namespace."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kernel.contracts.runtime import NamespaceMode, SandboxRequest, Security
from kernel.errors import InvalidInput
from kernel.host.pidfd import identify
from kernel.ids import SandboxId, new_id
from tests.integration.runtime.conftest import Node


async def test_containers_share_the_pods_namespaces(node: Node) -> None:
    sandbox = await node.pod(
        network=NamespaceMode.POD, dns_servers=("10.0.0.1",), dns_searches=("a.example", "b.example"),
        dns_options=("ndots:5",), sysctls={"net.ipv4.ip_unprivileged_port_start": "81", "kernel.shm_rmid_forced": "1"},
    )  # fmt: skip
    script = """hostname; cat /etc/hostname; cat /etc/resolv.conf; readlink /proc/self/ns/ipc
        readlink /proc/self/ns/uts
        cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced
        echo x >/dev/shm/mine; df -k /dev/shm"""
    first = (await node.output(sandbox, script)).splitlines()
    assert first[:5] == ["testpod", "testpod", "search a.example b.example", "nameserver 10.0.0.1", "options ndots:5"]
    assert first[7:9] == ["81", "1"]
    assert "65536" in first[-1]
    second = (await node.output(sandbox, script + "; cat /dev/shm/mine")).splitlines()
    assert second[5:7] == first[5:7]
    assert first[5] != os.readlink("/proc/self/ns/ipc")
    assert second[-1] == "x"


async def test_made_twice_and_removed_twice(node: Node) -> None:
    request = node.pod_request()
    made = await asyncio.gather(*(node.make_pod(request) for _ in range(3)))
    assert made[0] == made[1] == made[2] == await node.make_pod(request)
    assert made[0].pause_pid == 0
    assert (await node.facts()).pods[0].ready
    for _ in range(2):
        await node.service.remove_pod(SandboxRequest(sandbox_id=request.sandbox_id), node.call())
    await node.service.stop_pod(SandboxRequest(sandbox_id=SandboxId(new_id())), node.call())
    assert (await node.facts()).pods == ()


async def test_stop_ends_all_and_keeps_the_pod(node: Node) -> None:
    request = node.pod_request(pid=NamespaceMode.POD)
    made = await node.make_pod(request)
    container = await node.run(request.sandbox_id, "sleep", "100", security=Security(pid=NamespaceMode.POD))
    await node.service.stop_pod(SandboxRequest(sandbox_id=request.sandbox_id), node.call())
    assert (await node.fact(container)).state == "exited"
    assert identify(made.pause_pid) is None
    assert [(fact.sandbox_id, fact.ready) for fact in (await node.facts()).pods] == [(request.sandbox_id, False)]


async def test_the_hosts_namespaces(node: Node) -> None:
    sandbox = await node.pod(ipc=NamespaceMode.NODE, pid=NamespaceMode.NODE)
    text = await node.output(
        sandbox, "for kind in ipc uts pid; do readlink /proc/self/ns/$kind; done",
        security=Security(pid=NamespaceMode.NODE),
    )  # fmt: skip
    assert text.split() == [os.readlink(f"/proc/self/ns/{kind}") for kind in ("ipc", "uts", "pid")]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"handler": "../../bin/sh"}, "runtime_handler"),
        ({"cgroup_parent": "/a/../.."}, "cgroup_parent"),
        ({"cgroup_parent": "/"}, "cgroup_parent"),
        ({"sysctls": {"kernel.core_pattern": "x"}}, "sysctls"),
        ({"sysctls": {"net.ipv4.ip_forward": "1"}}, "host's network"),
        ({"hostname": "a\nb"}, "hostname"),
        ({"dns_servers": ("1.1.1.1\nnameserver 2.2.2.2",)}, "dns_config"),
    ],
)
async def test_bad_input_leaves_nothing(node: Node, fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        await node.pod(**fields)
    assert (await node.service.inventory(None, node.call())).pods == ()  # type: ignore[arg-type]


async def test_a_given_cgroup_parent_is_kept_where_it_was(node: Node, parent: str) -> None:
    request = node.pod_request(cgroup_parent=f"{parent}/burstable/pod1")
    made = await node.make_pod(request)
    assert made.cgroup == f"{parent}/burstable/pod1"
    container = await node.run(request.sandbox_id, "sleep", "100")
    groups = Path(f"/proc/{(await node.fact(container)).pid}/cgroup").read_text()
    assert f":{parent}/burstable/pod1/crisp-{container}\n" in groups
    conmon = node.config.paths.runtime_state / "containers" / container / "conmon.pid"
    assert f"{parent}/burstable/pod1/crisp-conmon-{container}" in Path(f"/proc/{conmon.read_text()}/cgroup").read_text()
