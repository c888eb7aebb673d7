"""Containers from create to remove: states, logs, exit codes and reasons, stopping."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import Cri, Pod, parse_log_line
from tests.harness.daemon import Daemon

RFC3339_NANO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)")


def test_a_container_goes_from_created_to_running_to_exited(pod: Pod, cri: Cri, busybox_ref: str) -> None:
    container = pod.create("sleep", "600", labels={"tier": "x"}, annotations={"a/b": "c"})
    status = cri.container(container)
    assert status.state == pb.CONTAINER_CREATED
    assert status.started_at == status.finished_at == 0
    cri.start(container)
    status = cri.container(container)
    assert status.state == pb.CONTAINER_RUNNING
    assert 0 < status.created_at <= status.started_at <= time.time_ns()
    assert dict(status.labels) == {"tier": "x"}
    assert dict(status.annotations) == {"a/b": "c"}
    assert status.image.image == busybox_ref
    assert status.image_ref
    assert status.image_id == cri.image(busybox_ref).id
    cri.stop(container, 0)
    status = cri.container(container)
    assert status.state == pb.CONTAINER_EXITED
    assert status.started_at <= status.finished_at <= time.time_ns()


@pytest.mark.parametrize(("script", "code", "reason"), [("true", 0, "Completed"), ("exit 7", 7, "Error")])
def test_exit_code_and_reason(pod: Pod, cri: Cri, script: str, code: int, reason: str) -> None:
    status = cri.wait_exit(pod.shell(script))
    assert (status.exit_code, status.reason) == (code, reason)


def test_a_container_that_was_killed_exits_with_its_signal(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600")
    os.kill(cri.pid(container), signal.SIGKILL)
    status = cri.wait_exit(container)
    assert (status.exit_code, status.reason) == (137, "Error")


def test_a_container_that_outgrows_its_memory_was_oom_killed(pod: Pod, cri: Cri) -> None:
    limits = pb.LinuxContainerResources(memory_limit_in_bytes=32 << 20, memory_swap_limit_in_bytes=32 << 20)
    status = cri.wait_exit(pod.run("sh", "-c", "x=x; while true; do x=$x$x; done", resources=limits))
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


def test_the_log_has_the_cri_format(pod: Pod, cri: Cri) -> None:
    container = pod.shell("echo one; echo two >&2; printf three")
    cri.wait_exit(container)
    path = Path(cri.container(container).log_path)
    assert path.parent == Path(pod.config.log_directory)
    lines = [parse_log_line(line) for line in path.read_text().splitlines()]
    assert sorted((stream, tag, text) for _, stream, tag, text in lines) == [
        ("stderr", "F", "two"), ("stdout", "F", "one"), ("stdout", "P", "three"),
    ]  # fmt: skip
    for moment, *_ in lines:
        assert RFC3339_NANO.fullmatch(moment), moment


def test_a_rotated_log_goes_on_in_a_new_file(pod: Pod, cri: Cri) -> None:
    container = pod.shell("while true; do echo tick; sleep 0.1; done")
    path = Path(cri.container(container).log_path)
    host.until("the first line", lambda: path.exists() and path.stat().st_size)
    path.rename(path.with_suffix(".old"))
    cri.call("ReopenContainerLog", container_id=container)
    assert path.exists()
    host.until("a line in the new file", lambda: path.stat().st_size)
    assert parse_log_line(path.read_text().splitlines()[0])[3] == "tick"


def test_stop_lets_a_container_end_by_itself(pod: Pod, cri: Cri) -> None:
    container = pod.shell("trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.1; done")
    host.until("its trap is set", lambda: pod.log(container) == [("stdout", "up")])
    began = time.monotonic()
    cri.stop(container, 20)
    assert time.monotonic() - began < 10
    assert cri.container(container).exit_code == 3
    assert pod.log(container)[-1] == ("stdout", "bye")


def test_stop_kills_a_container_that_will_not_end(pod: Pod, cri: Cri) -> None:
    container = pod.shell("trap '' TERM; echo up; while true; do sleep 0.1; done")
    host.until("its trap is set", lambda: pod.log(container) == [("stdout", "up")])
    began = time.monotonic()
    cri.stop(container, 1)
    assert 0.9 < time.monotonic() - began < 8
    status = cri.container(container)
    assert (status.exit_code, status.reason) == (137, "Error")


def test_the_stop_signal_of_the_request_is_used(pod: Pod, cri: Cri) -> None:
    container = pod.shell(
        "trap 'exit 9' INT; trap '' TERM; echo up; while true; do sleep 0.1; done", stop_signal=pb.SIGNAL_SIGINT
    )
    host.until("its trap is set", lambda: pod.log(container) == [("stdout", "up")])
    cri.stop(container, 10)
    assert cri.container(container).exit_code == 9
    assert cri.container(container).stop_signal == pb.SIGNAL_SIGINT


def test_remove_ends_a_running_container(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    container = pod.shell("sleep 600")
    pid = cri.pid(container)
    cri.remove(container)
    assert container not in {item.id for item in cri.list_containers()}
    assert pid not in host.cgroup_processes(daemon.cgroup_parent)
    assert not [point for point in host.mounts(daemon.folder) if container in point]


def test_the_image_gives_command_and_environment_unless_told_otherwise(pod: Pod, cri: Cri) -> None:
    status, log = pod.result("", command=[])
    assert (status.exit_code, log) == (0, [("stdout", "from the image")])
    envs = [pb.KeyValue(key="WORD", value=b"said")]
    _, log = pod.result("echo $WORD $PATH in $(pwd)", envs=envs, working_dir="/tmp")
    assert log == [("stdout", "said /bin in /tmp")]


def test_command_and_arguments_follow_the_kubernetes_rules(pod: Pod, cri: Cri) -> None:
    container = pod.run("echo", args=["two", "words"])
    cri.wait_exit(container)
    assert pod.log(container) == [("stdout", "two words")]
    only_arguments = pod.run(args=["echo", "instead of the image's command"])
    cri.wait_exit(only_arguments)
    assert pod.log(only_arguments) == [("stdout", "instead of the image's command")]


def test_a_command_that_does_not_exist_is_told(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        pod.run("/no/such/program")
    assert "/no/such/program" in caught.value.details()


def test_list_filters_by_id_pod_state_and_label(pods, cri: Cri) -> None:
    one, two = pods(), pods()
    first = one.run("sleep", "600", labels={"app": "a"})
    second = two.create("sleep", "600", labels={"app": "b"})
    assert {first, second} <= {item.id for item in cri.list_containers()}
    assert [item.id for item in cri.list_containers(id=first[:13])] == [first]
    assert [item.id for item in cri.list_containers(pod_sandbox_id=two.id)] == [second]
    assert [item.id for item in cri.list_containers(label_selector={"app": "a"})] == [first]
    created = pb.ContainerStateValue(state=pb.CONTAINER_CREATED)
    assert [item.id for item in cri.list_containers(state=created, pod_sandbox_id=two.id)] == [second]
    item = cri.list_containers(id=first)[0]
    assert item.pod_sandbox_id == one.id
    assert item.image_ref


def test_verbose_status_tells_what_peers_tell(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600")
    info = cri.info(container)
    assert info["sandboxID"] == pod.id
    assert Path(f"/proc/{info['pid']}").exists()
    assert info["runtimeSpec"]["process"]["args"] == ["sh", "-c", "sleep 600"]
    assert not cri.call("ContainerStatus", container_id=container).info
