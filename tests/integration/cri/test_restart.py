"""Any process of crisp, or all of them, can be killed: containers never notice, the kubelet sees a delay."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from kernel.host import proc
from tests.harness import host
from tests.harness.cri import Cri, Pod, outcome, pod_config
from tests.harness.daemon import Daemon

NAMES = ["front", "image", "storage", "network", "runtime", "stream", "spawner", "supervisor"]


@dataclass(frozen=True)
class Seen:
    """Everything that is listed, and who the running containers are."""

    pods: dict[str, object]
    containers: dict[str, object]
    images: dict[str, object]
    running: dict[str, tuple[int, int]]
    """Pid and start time by container."""


def look(cri: Cri) -> Seen:
    containers = {item.id: item for item in cri.list_containers()}
    running = {}
    for item in containers.values():
        if item.state == pb.CONTAINER_RUNNING:
            pid = cri.pid(item.id)
            running[item.id] = (pid, host.start_time(pid))
    return Seen(
        pods={item.id: item for item in cri.list_pods()},
        containers=containers,
        images={item.id: item for item in cri.list_images()},
        running=running,
    )


@pytest.fixture
def workload(pods, cri: Cri) -> Pod:
    """A pod with one container that counts, one created, one that has ended with 4."""
    pod = pods()
    pod.counter = pod.shell("i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done")
    pod.created = pod.create("sleep", "600")
    pod.ended = pod.shell("exit 4")
    cri.wait_exit(pod.ended)
    host.until("it counts", lambda: pod.log(pod.counter))
    return pod


def assert_counted(pod: Pod) -> None:
    """The log has grown since, with no gap and no repeat."""
    before = len(pod.log(pod.counter))
    host.until("the log grows", lambda: len(pod.log(pod.counter)) > before)
    numbers = [int(text) for _, text in pod.log(pod.counter)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_one_process_is_killed(daemon: Daemon, workload: Pod, cri: Cri, name: str) -> None:
    before = look(cri)
    killed = daemon.kill(name)
    # The kubelet's next calls: a broken connection only where the socket's owner died.
    allowed = (grpc.StatusCode.UNAVAILABLE,) if name == "front" else ()
    first = outcome(cri.list_containers)
    assert not isinstance(first, grpc.RpcError) or first.code() in allowed, first
    host.until(f"{name} is back", lambda: daemon.workers().get(name, 0) not in (0, killed))
    host.until("ready again", daemon.ready)
    assert look(cri) == before
    assert_counted(workload)
    # All of it works as before.
    assert cri.output(workload.counter, "echo", "hello") == "hello\n"
    cri.start(workload.created)
    cri.stop(workload.created, 0)
    assert cri.container(workload.created).exit_code == 137
    assert cri.container(workload.ended).exit_code == 4


def test_every_process_is_killed_while_containers_end(daemon: Daemon, workload: Pod, cri: Cri) -> None:
    flag = workload.shell("until test -e /dev/shm/go; do sleep 0.05; done; echo leaving; exit 42")
    cri.output(workload.counter, "true")
    before = look(cri)
    pid, _ = before.running[flag]
    shm = f"/proc/{pid}/root/dev/shm/go"
    daemon.kill_all()
    # It ends while nobody of crisp lives.
    with open(shm, "w"):
        pass
    host.until("it has ended", lambda: not os.path.exists(f"/proc/{pid}"))
    daemon.start()
    status = cri.container(flag)
    assert (status.state, status.exit_code, status.reason) == (pb.CONTAINER_EXITED, 42, "Error")
    assert workload.log(flag) == [("stdout", "leaving")]
    after = look(cri)
    assert after.pods == before.pods
    assert after.images == before.images
    assert after.containers.keys() == before.containers.keys()
    assert {key: value for key, value in before.running.items() if key != flag} == after.running
    assert_counted(workload)
    assert cri.container(workload.ended).exit_code == 4
    assert cri.output(workload.counter, "echo", "hello") == "hello\n"


def test_a_container_whose_state_cannot_be_read_is_unknown_until_it_can(
    daemon: Daemon, workload: Pod, cri: Cri
) -> None:
    pid = cri.pid(workload.counter)
    state = daemon.run / "runtime" / "containers" / workload.counter / "state.json"
    whole = state.read_bytes()

    def restart_with(content: bytes, expected: int) -> None:
        state.write_bytes(content)
        killed = daemon.kill("runtime")
        host.until("the runtime worker is back", lambda: daemon.workers().get("runtime", 0) not in (0, killed))
        host.until("its report is applied", lambda: cri.container(workload.counter).state == expected)

    restart_with(b"{", pb.CONTAINER_UNKNOWN)
    assert os.path.exists(f"/proc/{pid}"), "it runs on"
    restart_with(whole, pb.CONTAINER_RUNNING)
    assert_counted(workload)
    restart_with(b"{", pb.CONTAINER_UNKNOWN)
    cri.stop(workload.counter, 30)
    status = cri.container(workload.counter)
    assert (status.state, status.exit_code, status.reason) == (pb.CONTAINER_EXITED, 255, "Unknown")
    assert proc.live(pid) is None


def test_an_orderly_restart_changes_nothing(daemon: Daemon, workload: Pod, cri: Cri) -> None:
    before = look(cri)
    daemon.stop()
    assert host.processes(daemon.folder), "conmons run on"
    daemon.start()
    assert look(cri) == before
    assert_counted(workload)


def test_restart_by_name_is_not_noticed(daemon: Daemon, workload: Pod, cri: Cri) -> None:
    before = look(cri)
    for name in ("image", "storage", "network", "runtime"):
        old = daemon.workers()[name]
        daemon.command("restart", name)
        assert daemon.workers()[name] not in (0, old)
    assert look(cri) == before
    assert_counted(workload)


@pytest.mark.parametrize("name", ["storage", "network", "runtime"])
def test_a_worker_dies_while_pods_are_made(daemon: Daemon, cri: Cri, busybox_ref: str, name: str) -> None:
    """The front repeats the step: the caller sees a delay, and nothing is made twice."""
    pids = daemon.workers()
    configs = [pod_config(daemon.logs) for _ in range(4)]

    def make(config) -> tuple[str, str]:
        pod = Pod(cri, daemon.logs, busybox_ref, config)
        return pod.id, pod.shell("sleep 600")

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(make, config) for config in configs]
        os.kill(pids[name], signal.SIGKILL)
        made = [future.result(60) for future in futures]
    assert {cri.container(container).state for _, container in made} == {pb.CONTAINER_RUNNING}
    addresses = {cri.pod(sandbox).network.ip for sandbox, _ in made}
    assert len(addresses) == 4
    for sandbox, _ in made:
        cri.remove_pod(sandbox)
    assert daemon.leaks() == []


def test_a_worker_dies_while_an_image_is_pulled(daemon: Daemon, cri: Cri, registry) -> None:
    import secrets

    from deploy.demo_image import Layer, image

    layers = []
    for number in range(3):
        layer = Layer()
        layer.file(f"noise{number}", secrets.token_bytes(8 << 20))
        layers.append(layer.tar())
    registry.push(image(layers), "noise", "v1")
    pids = daemon.workers()
    with ThreadPoolExecutor(1) as threads:
        pull = threads.submit(cri.pull, f"{registry.address}/noise:v1")
        os.kill(pids["image"], signal.SIGKILL)
        os.kill(pids["storage"], signal.SIGKILL)
        pull.result(60)
    assert cri.image(f"{registry.address}/noise:v1") is not None


def test_after_all_are_killed_a_removed_pod_leaves_nothing(daemon: Daemon, cri: Cri, busybox_ref: str) -> None:
    pod = Pod(cri, daemon.logs, busybox_ref)
    pod.shell("sleep 600")
    daemon.kill_all()
    daemon.start()
    pod.remove()
    assert daemon.leaks() == []


def test_a_lost_state_is_made_anew_of_its_copy(daemon: Daemon, workload: Pod, cri: Cri, pods) -> None:
    gone = pods()
    state = daemon.root / "state" / "state.db"
    copy = state.with_name("state.db.copy")

    def copied() -> set[str]:
        if not copy.exists():
            return set()
        with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as database:
            return {id_ for (id_,) in database.execute("SELECT id FROM records WHERE kind = 'sandbox'")}

    before = look(cri)
    host.until("the state is copied", lambda: before.pods.keys() <= copied(), 30)
    gone.remove()  # the copy does not know of it yet
    daemon.kill_all()
    state.write_bytes(b"garbage" * 1000)
    for log in ("state.db-wal", "state.db-shm"):
        state.with_name(log).unlink(missing_ok=True)
    daemon.start()
    told = json.loads(cri.status(verbose=True).info["state"])["damaged"]
    assert "state.db.damaged-" in told
    assert "its records are those of" in told
    host.until("what was removed meanwhile is not ready", lambda: cri.pod(gone.id).state == pb.SANDBOX_NOTREADY)
    gone.remove()
    after = look(cri)
    del before.pods[gone.id]
    assert after == before
    assert_counted(workload)
    assert cri.output(workload.counter, "echo", "hello") == "hello\n"
    daemon.stop()
    daemon.start()
    assert not json.loads(cri.status(verbose=True).info["state"])["damaged"]
