"""Pod requests: what is translated, and which field a refusal names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernel.contracts.network import PortMapping
from kernel.contracts.runtime import NamespaceMode
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError, InvalidInput
from kernel.front.requests.pod_config import PodPlan, plan_pod
from kernel.ids import SandboxId
from tests.harness.fakes.pod_workers import pod_config

SANDBOX = SandboxId("a" * 64)


def plan(config: cri.PodSandboxConfig, handler: str = "") -> PodPlan:
    return plan_pod(SANDBOX, config, handler, {"runc": 1, "crun": 2})


def test_a_whole_pod_is_translated() -> None:
    config = pod_config(attempt=3)
    config.hostname = "web-1"
    config.dns_config.servers.append("10.0.0.10")
    config.dns_config.options.append("ndots:5")
    config.linux.cgroup_parent = "/kubepods/burstable/pod1"
    config.linux.sysctls["net.ipv4.ip_unprivileged_port_start"] = "0"
    config.linux.sysctls["kernel.shm_rmid_forced"] = "1"
    config.linux.security_context.namespace_options.pid = cri.CONTAINER
    config.port_mappings.add(protocol=cri.UDP, container_port=53, host_port=5353, host_ip="127.0.0.1")
    config.port_mappings.add(container_port=80)
    found = plan(config, "crun")
    assert (found.pod.name, found.pod.attempt, found.pod.handler, found.pod.hostname) == ("web", 3, "crun", "web-1")
    assert found.pod.pid is NamespaceMode.CONTAINER
    assert found.pod.cgroup_parent == "/kubepods/burstable/pod1"
    assert len(found.pod.sysctls) == 2
    assert found.attach is not None
    mapping = PortMapping(protocol="udp", container_port=53, host_port=5353, host_ip="127.0.0.1")
    assert found.attach.port_mappings == (mapping,)
    assert found.attach.dns_servers == ("10.0.0.10",)
    assert found.attach.annotations == {"note": "a\nb"}


def test_the_interface_s_defaults() -> None:
    found = plan(pod_config())
    assert (found.pod.network, found.pod.pid, found.pod.ipc) == (NamespaceMode.POD,) * 3


def test_a_host_network_pod_is_not_attached() -> None:
    found = plan(pod_config(host_network=True))
    assert found.attach is None
    assert found.pod.network is NamespaceMode.NODE


Change = Callable[[cri.PodSandboxConfig], object]
FAULTS: list[tuple[str, Change]] = [
    ("config.metadata:", lambda c: c.ClearField("metadata")),
    ("config.metadata.name", lambda c: setattr(c.metadata, "name", "")),
    ("config.metadata.name", lambda c: setattr(c.metadata, "name", "a/b")),
    ("config.metadata.name", lambda c: setattr(c.metadata, "name", "..")),
    ("config.metadata.namespace", lambda c: setattr(c.metadata, "namespace", "a\nb")),
    ("config.metadata.uid", lambda c: setattr(c.metadata, "uid", "a\0b")),
    ("config.metadata.uid", lambda c: setattr(c.metadata, "uid", "u" * 300)),
    ("config.hostname", lambda c: setattr(c, "hostname", "a b")),
    ("config.hostname", lambda c: setattr(c, "hostname", "h" * 65)),
    ("config.log_directory", lambda c: setattr(c, "log_directory", "logs")),
    ("config.log_directory", lambda c: setattr(c, "log_directory", "/var/../etc")),
    ("config.dns_config.servers[0]", lambda c: c.dns_config.servers.append("1.1.1.1\nsearch evil")),
    ("config.dns_config.options[0]", lambda c: c.dns_config.options.append("")),
    ("config.port_mappings[0].host_port", lambda c: c.port_mappings.add(container_port=1, host_port=65536)),
    ("config.port_mappings[0].container_port", lambda c: c.port_mappings.add(container_port=0, host_port=1)),
    ("config.port_mappings[0].host_ip", lambda c: c.port_mappings.add(container_port=1, host_ip="localhost")),
    ("config.port_mappings[0].protocol", lambda c: c.port_mappings.add(container_port=1, protocol=9)),
    ("config.linux.cgroup_parent", lambda c: setattr(c.linux, "cgroup_parent", "/kubepods/../..")),
    ("config.linux.cgroup_parent", lambda c: setattr(c.linux, "cgroup_parent", "/")),
    ("config.linux.resources.cpu_shares", lambda c: setattr(c.linux.resources, "cpu_shares", -1)),
    ("config.labels", lambda c: c.labels.update({"x": "y" * (1 << 20)})),
]


@pytest.mark.parametrize(("field", "change"), FAULTS, ids=[f"{i} {field}" for i, (field, _) in enumerate(FAULTS)])
def test_a_fault_names_its_field(field: str, change: Change) -> None:
    config = pod_config()
    change(config)
    with pytest.raises(InvalidInput) as caught:
        plan(config)
    assert field in caught.value.message


def test_an_unknown_handler_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidInput, match="runtime_handler") as caught:
        plan(pod_config(), "../../bin/sh")
    assert "crun, runc" in caught.value.hint


def test_a_user_namespace_reaches_both_workers() -> None:
    config = pod_config()
    options = config.linux.security_context.namespace_options.userns_options
    options.uids.add(host_id=100000, length=65536)
    options.gids.add(host_id=200000, length=65536)
    planned = plan(config)
    assert planned.pod.user_namespace is not None
    assert planned.pod.user_namespace.root == (100000, 200000)
    assert planned.attach is not None
    assert planned.attach.user_namespace


def test_what_the_kubelet_always_sends_is_taken() -> None:
    config = pod_config()
    context = config.linux.security_context
    context.seccomp.profile_type = cri.SecurityProfile.RuntimeDefault
    context.namespace_options.userns_options.mode = cri.NODE
    context.run_as_user.value = 1000
    config.linux.overhead.cpu_quota = -1
    try:
        plan(config)
    except CrispError as error:
        pytest.fail(str(error))
