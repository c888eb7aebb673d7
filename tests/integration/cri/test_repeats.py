"""Calls that are repeated, and calls made at once: each object is made once, and done twice is done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import Cri, Pod, container_config, outcome, pod_config
from tests.harness.daemon import Daemon


def test_a_repeated_pod_is_the_same_pod(pods, cri: Cri) -> None:
    pod = pods()
    assert cri.run_pod(pod.config) == pod.id
    assert [item.id for item in cri.list_pods() if item.metadata.uid == pod.config.metadata.uid] == [pod.id]


def test_the_next_attempt_is_another_pod(pods, cri: Cri) -> None:
    first = pods()
    again = pb.PodSandboxConfig()
    again.CopyFrom(first.config)
    again.metadata.attempt = 1
    second = pods(again)
    assert second.id != first.id


def test_equal_pods_at_once_are_one(cri: Cri, daemon: Daemon) -> None:
    config = pod_config(daemon.logs)
    with ThreadPoolExecutor(6) as threads:
        made = {future.result() for future in [threads.submit(cri.run_pod, config) for _ in range(6)]}
    assert len(made) == 1
    cri.remove_pod(made.pop())


def test_a_repeated_container_is_the_same_container(pod: Pod, cri: Cri, busybox_ref: str) -> None:
    config = container_config(busybox_ref, "sleep", "600")
    with ThreadPoolExecutor(6) as threads:
        made = {
            future.result() for future in [threads.submit(cri.create, pod.id, config, pod.config) for _ in range(6)]
        }
    assert len(made) == 1
    assert cri.create(pod.id, config, pod.config) == made.pop()
    assert len(cri.list_containers(pod_sandbox_id=pod.id)) == 1


def test_a_second_start_does_not_start_a_second_process(pod: Pod, cri: Cri) -> None:
    container = pod.shell("echo started; sleep 600")
    pid = cri.pid(container)
    outcome(lambda: cri.start(container))  # the peers differ on whether this is an error
    assert cri.pid(container) == pid
    assert pod.log(container) == [("stdout", "started")]


def test_stop_and_remove_twice_succeed(pods, cri: Cri) -> None:
    pod = pods()
    container = pod.shell("sleep 600")
    for _ in range(2):
        cri.stop(container, 0)
    for _ in range(2):
        cri.remove(container)
    for _ in range(2):
        cri.stop_pod(pod.id)
    for _ in range(2):
        cri.call("RemovePodSandbox", pod_sandbox_id=pod.id)


def test_a_second_stop_with_a_shorter_grace_shortens_the_first(pod: Pod, cri: Cri) -> None:
    container = pod.shell("trap '' TERM; while true; do sleep 0.1; done")
    with ThreadPoolExecutor(2) as threads:
        patient = threads.submit(cri.stop, container, 50)
        threads.submit(cri.stop, container, 1).result(20)
        patient.result(20)
    assert cri.container(container).exit_code == 137


def test_eight_pods_at_once(cri: Cri, daemon: Daemon, busybox_ref: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: Pod(cri, daemon.logs, busybox_ref), range(8)))
        containers = list(threads.map(lambda pod: pod.shell("echo up; sleep 600"), made))
        assert {cri.container(one).state for one in containers} == {pb.CONTAINER_RUNNING}
        addresses = [cri.pod(pod.id).network.ip for pod in made]
        assert len(set(addresses)) == 8
        list(threads.map(Pod.remove, made))
