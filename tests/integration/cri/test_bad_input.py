"""Bad input gets the right code, names the field, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import INVALID, NOT_FOUND, Cri, Pod, container_config, pod_config, refused
from tests.harness.daemon import Daemon

UNKNOWN = "f" * 64
Change = Callable[[object], None]


def holdings(daemon: Daemon) -> tuple[object, ...]:
    """What is listed and what is on the host."""
    return (
        sorted(item.id for item in daemon.cri.list_pods()),
        sorted(item.id for item in daemon.cri.list_containers()),
        sorted(daemon.leaks()),
    )


POD_FAULTS: list[tuple[str, Change]] = [
    ("metadata", lambda config: config.ClearField("metadata")),
    ("metadata.name", lambda config: config.metadata.ClearField("name")),
    ("metadata.uid", lambda config: config.metadata.ClearField("uid")),
    ("metadata.namespace", lambda config: config.metadata.ClearField("namespace")),
    ("log_directory", lambda config: setattr(config, "log_directory", "relative/path")),
    ("log_directory", lambda config: setattr(config, "log_directory", "/var/log/../../etc")),
    ("hostname", lambda config: setattr(config, "hostname", "not/a host")),
    ("port_mappings", lambda config: config.port_mappings.append(pb.PortMapping(container_port=80, host_port=70000))),
    ("port_mappings", lambda config: config.port_mappings.append(pb.PortMapping(container_port=-1, host_port=80))),
    ("dns_config", lambda config: config.dns_config.servers.append("not an address\nnameserver 1.1.1.1")),
    ("cgroup_parent", lambda config: setattr(config.linux, "cgroup_parent", "/crisp/../../x")),
    ("sysctls", lambda config: config.linux.sysctls.update({"../../etc/passwd": "1"})),
]


@pytest.mark.parametrize(
    ("field", "change"), POD_FAULTS, ids=[f"{i}-{field}" for i, (field, _) in enumerate(POD_FAULTS)]
)
def test_a_faulty_pod_is_refused(daemon: Daemon, cri: Cri, field: str, change: Change) -> None:
    before = holdings(daemon)
    config = pod_config(daemon.logs)
    change(config)
    with refused(INVALID, field):
        cri.run_pod(config)
    assert holdings(daemon) == before


def test_a_missing_configuration_is_refused(cri: Cri, pod: Pod) -> None:
    with refused(INVALID, "config"):
        cri.call("RunPodSandbox")
    with refused(INVALID, "config"):
        cri.call("CreateContainer", pod_sandbox_id=pod.id)


def test_an_unknown_runtime_handler_is_refused(daemon: Daemon, cri: Cri) -> None:
    before = holdings(daemon)
    with refused(INVALID, "runtime_handler", "no-such-handler"):
        cri.run_pod(pod_config(daemon.logs), "no-such-handler")
    assert holdings(daemon) == before


def _limit(name: str) -> Change:
    return lambda config: setattr(config.linux.resources, name, -1)


CONTAINER_FAULTS: list[tuple[str, Change]] = [
    ("metadata", lambda config: config.ClearField("metadata")),
    ("metadata.name", lambda config: config.metadata.ClearField("name")),
    ("image", lambda config: config.ClearField("image")),
    ("log_path", lambda config: setattr(config, "log_path", "../escaped.log")),
    ("log_path", lambda config: setattr(config, "log_path", "a/../../escaped.log")),
    ("mounts", lambda config: config.mounts.append(pb.Mount(container_path="/x", host_path="/dev/null/below"))),
    ("mounts", lambda config: config.mounts.append(pb.Mount(container_path="relative", host_path="/tmp"))),
    ("mounts", lambda config: config.mounts.append(pb.Mount(container_path="/x", host_path="relative"))),
    ("memory_limit_in_bytes", _limit("memory_limit_in_bytes")),
    ("cpu_shares", _limit("cpu_shares")),
    ("cpu_period", _limit("cpu_period")),
    ("working_dir", lambda config: setattr(config, "working_dir", "relative")),
    ("envs", lambda config: config.envs.append(pb.KeyValue(key="A=B", value=b"x"))),
    ("add_capabilities", lambda config: config.linux.security_context.capabilities.add_capabilities.append("NO_SUCH")),
    ("devices", lambda config: config.devices.append(
        pb.Device(container_path="/dev/x", host_path="/dev/no-such-device", permissions="rwm"))),
    ("run_as_username", lambda config: setattr(config.linux.security_context, "run_as_username", "no-such-user")),
    ("run_as_user", lambda config: config.linux.security_context.run_as_user.MergeFrom(pb.Int64Value(value=-1))),
    ("run_as_group", lambda config: config.linux.security_context.run_as_group.MergeFrom(pb.Int64Value(value=5))),
    ("target_id", lambda config: config.linux.security_context.namespace_options.MergeFrom(
        pb.NamespaceOption(pid=pb.TARGET, target_id=UNKNOWN))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "change"), CONTAINER_FAULTS, ids=[f"{i}-{field}" for i, (field, _) in enumerate(CONTAINER_FAULTS)]
)
def test_a_faulty_container_is_refused(
    daemon: Daemon, pod: Pod, cri: Cri, busybox_ref: str, field: str, change: Change
) -> None:
    before = holdings(daemon)
    config = container_config(busybox_ref, "sleep", "1")
    change(config)
    with refused(INVALID, field):
        cri.create(pod.id, config, pod.config)
    assert holdings(daemon) == before


def test_no_command_anywhere_is_refused(daemon: Daemon, pod: Pod, cri: Cri, registry) -> None:
    from deploy.demo_image import busybox_layer, image

    registry.push(image([busybox_layer().tar()], {"Env": ["PATH=/bin"]}), "commandless", "v1")
    reference = f"{registry.address}/commandless:v1"
    cri.pull(reference)
    before = holdings(daemon)
    with refused(INVALID, "command"):
        cri.create(pod.id, container_config(reference), pod.config)
    assert holdings(daemon) == before


def test_what_is_unknown_is_not_found(daemon: Daemon, pod: Pod, cri: Cri, busybox_ref: str) -> None:
    with refused(NOT_FOUND, UNKNOWN):
        cri.pod(UNKNOWN)
    with refused(NOT_FOUND, UNKNOWN):
        cri.container(UNKNOWN)
    with refused(NOT_FOUND, UNKNOWN):
        cri.start(UNKNOWN)
    with refused(NOT_FOUND, UNKNOWN):
        cri.exec(UNKNOWN, "true")
    with refused(NOT_FOUND, UNKNOWN):
        cri.call("ReopenContainerLog", container_id=UNKNOWN)
    with refused(NOT_FOUND, UNKNOWN):
        cri.create(UNKNOWN, container_config(busybox_ref, "true"), pod.config)
    before = holdings(daemon)
    with refused(NOT_FOUND, "never-pulled"):
        cri.create(pod.id, container_config("localhost/never-pulled:v1", "true"), pod.config)
    assert holdings(daemon) == before


def test_stop_and_remove_of_what_is_gone_succeed(cri: Cri) -> None:
    cri.stop(UNKNOWN)
    cri.remove(UNKNOWN)
    cri.stop_pod(UNKNOWN)
    cri.call("RemovePodSandbox", pod_sandbox_id=UNKNOWN)
    cri.remove_image("localhost/never-pulled:v1")
    assert cri.image("localhost/never-pulled:v1") is None
    assert cri.list_pods(id=UNKNOWN) == []
    assert cri.list_containers(id=UNKNOWN) == []


@pytest.mark.parametrize("name", ["StopContainer", "RemoveContainer", "StartContainer", "ContainerStatus"])
def test_an_empty_container_id_is_refused(cri: Cri, name: str) -> None:
    with refused(INVALID, "container_id"):
        cri.call(name)


@pytest.mark.parametrize("name", ["StopPodSandbox", "RemovePodSandbox", "PodSandboxStatus"])
def test_an_empty_pod_id_is_refused(cri: Cri, name: str) -> None:
    with refused(INVALID, "pod_sandbox_id"):
        cri.call(name)


def test_an_empty_exec_is_refused(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600")
    with refused(INVALID, "cmd"):
        cri.exec(container)
    with refused(INVALID, "timeout"):
        cri.exec(container, "true", timeout=-1)


def test_a_container_in_a_stopped_pod_is_refused(pods, cri: Cri) -> None:
    pod = pods()
    created = pod.create("sleep", "1")
    cri.stop_pod(pod.id)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        pod.create("sleep", "1")
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        cri.start(created)
