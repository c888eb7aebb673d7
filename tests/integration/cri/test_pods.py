"""RunPodSandbox, status, list, stop and remove."""

from __future__ import annotations

import time

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import NOT_FOUND, Cri, Pod, pod_config, refused
from tests.harness.daemon import Daemon


def test_a_pod_is_ready_with_all_that_was_said_of_it(daemon: Daemon, pod: Pod, cri: Cri) -> None:
    status = cri.pod(pod.id)
    assert status.id == pod.id
    assert status.state == pb.SANDBOX_READY
    assert status.metadata == pod.config.metadata
    assert dict(status.labels) == dict(pod.config.labels)
    assert dict(status.annotations) == dict(pod.config.annotations)
    assert abs(status.created_at - time.time_ns()) < 60e9
    assert status.network.ip.startswith(f"{daemon.subnet}.")
    assert status.linux.namespaces.options == pod.config.linux.security_context.namespace_options


def test_list_filters_by_id_state_and_label(pods, cri: Cri, daemon: Daemon) -> None:
    first = pods(pod_config(daemon.logs, "listed-a", labels={"app": "a"}))
    second = pods(pod_config(daemon.logs, "listed-b", labels={"app": "b"}))
    assert {first.id, second.id} <= {item.id for item in cri.list_pods()}
    assert [item.id for item in cri.list_pods(id=first.id)] == [first.id]
    assert [item.id for item in cri.list_pods(id=first.id[:13])] == [first.id]
    assert [item.id for item in cri.list_pods(label_selector={"app": "b"})] == [second.id]
    assert cri.list_pods(id=first.id, label_selector={"app": "b"}) == []
    cri.stop_pod(second.id)
    not_ready = pb.PodSandboxStateValue(state=pb.SANDBOX_NOTREADY)
    assert [item.id for item in cri.list_pods(state=not_ready)] == [second.id]
    item = cri.list_pods(id=first.id)[0]
    assert item.metadata == first.config.metadata
    assert dict(item.annotations) == dict(first.config.annotations)


def test_a_stopped_pod_is_not_ready_and_holds_nothing(daemon: Daemon, pods, cri: Cri) -> None:
    pod = pods()
    container = pod.shell("sleep 600")
    pid = cri.pid(container)
    cri.stop_pod(pod.id)
    assert cri.pod(pod.id).state == pb.SANDBOX_NOTREADY
    status = cri.container(container)
    assert status.state == pb.CONTAINER_EXITED
    assert status.exit_code == 137
    assert not (daemon.run / "netns" / pod.id).exists()
    assert pid not in host.cgroup_processes(daemon.cgroup_parent)


def test_a_removed_pod_leaves_nothing(daemon: Daemon, pods, cri: Cri) -> None:
    pod = pods()
    container = pod.shell("sleep 600")
    created = pod.create("sleep", "1")
    pod.remove()
    assert pod.id not in {item.id for item in cri.list_pods()}
    assert not {container, created} & {item.id for item in cri.list_containers()}
    with refused(NOT_FOUND, pod.id):
        cri.pod(pod.id)
    with refused(NOT_FOUND, container):
        cri.container(container)
    assert [leak for leak in daemon.leaks() if pod.id in leak or container in leak] == []


def test_removing_a_running_pod_stops_it(pods, cri: Cri, daemon: Daemon) -> None:
    pod = pods()
    pid = cri.pid(pod.shell("sleep 600"))
    cri.call("RemovePodSandbox", pod_sandbox_id=pod.id)
    assert pod.id not in {item.id for item in cri.list_pods()}
    assert pid not in host.cgroup_processes(daemon.cgroup_parent)


def test_a_pod_can_ask_for_crun(pods, cri: Cri) -> None:
    pod = pods(handler="crun")
    assert cri.pod(pod.id).runtime_handler == "crun"
    assert cri.list_pods(id=pod.id)[0].runtime_handler == "crun"
    container = pod.shell("echo from crun; sleep 600")
    assert cri.output(container, "echo", "hello") == "hello\n"
    cri.stop(container, 0)
    assert pod.log(container) == [("stdout", "from crun")]


def test_verbose_status_is_json(pod: Pod, cri: Cri) -> None:
    assert isinstance(cri.pod_info(pod.id), dict)


def test_a_pod_gets_its_hostname_resolver_and_sysctls(pods, daemon: Daemon) -> None:
    config = pod_config(daemon.logs, "named", hostname="its-name")
    config.dns_config.CopyFrom(pb.DNSConfig(servers=["192.0.2.53"], searches=["a.test", "b.test"], options=["ndots:3"]))
    config.linux.sysctls["net.ipv4.ip_forward"] = "1"
    pod = pods(config)
    container = pod.shell("sleep 600")
    cri = daemon.cri
    assert cri.output(container, "hostname") == "its-name\n"
    resolver = cri.output(container, "cat", "/etc/resolv.conf").split("\n")
    assert resolver[:3] == ["search a.test b.test", "nameserver 192.0.2.53", "options ndots:3"]
    assert cri.output(container, "cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"
