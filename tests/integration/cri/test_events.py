"""GetContainerEvents: order, contents, several subscribers, restarts of the processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import Cri, outcome
from tests.harness.host import until

NAMES = {
    pb.CONTAINER_CREATED_EVENT: "created", pb.CONTAINER_STARTED_EVENT: "started",
    pb.CONTAINER_STOPPED_EVENT: "stopped", pb.CONTAINER_DELETED_EVENT: "deleted",
}  # fmt: skip
SLEEP = "trap 'exit 3' TERM; sleep 600 & wait"


class Listener:
    """A stream of events, read by a thread."""

    def __init__(self, cri: Cri) -> None:
        self.events: list[pb.ContainerEventResponse] = []
        self.error: grpc.RpcError | None = None
        self._stream = cri.runtime.GetContainerEvents(pb.GetEventsRequest(), wait_for_ready=True, timeout=120)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for event in self._stream:
                self.events.append(event)
        except grpc.RpcError as error:
            self.error = error

    def of(self, *ids: str) -> list[tuple[str, str]]:
        """Ids and kinds of the events about some objects."""
        return [(one.container_id, NAMES[one.container_event_type]) for one in self.events if one.container_id in ids]

    def wait(self, name: str, kind: str) -> pb.ContainerEventResponse:
        """The last event of that kind about an object, once it has come."""
        until(f"{kind} of {name[:13]} is heard", lambda: (name, kind) in self.of(name), 20)
        return [one for one in self.events if (one.container_id, NAMES[one.container_event_type]) == (name, kind)][-1]

    def close(self) -> None:
        self._stream.cancel()
        self._thread.join(10)


@contextmanager
def listening(cri: Cri) -> Iterator[Listener]:
    listener = Listener(cri)
    try:
        yield listener
    finally:
        listener.close()


@pytest.fixture
def listener(cri) -> Iterator[Listener]:
    with listening(cri) as one:
        yield one


def test_a_pods_life_is_told_in_order_to_every_subscriber(cri, pods, listener):
    with listening(cri) as other:
        pod = pods()
        for one in (listener, other):
            one.wait(pod.id, "started")  # both streams stand
        first, second = pod.shell(SLEEP), pod.shell(SLEEP)
        cri.stop(first, 5)
        cri.remove(first)
        cri.remove_pod(pod.id)
        for one in (listener, other):
            one.wait(pod.id, "deleted")
            assert one.of(pod.id, first, second) == [
                (pod.id, "created"), (pod.id, "started"),
                (first, "created"), (first, "started"), (second, "created"), (second, "started"),
                (first, "stopped"), (first, "deleted"),
                (second, "stopped"), (pod.id, "stopped"),
                (second, "deleted"), (pod.id, "deleted"),
            ]  # fmt: skip


def test_an_event_bears_the_status_of_the_pod_and_its_containers_then(cri, pods, listener):
    pod = pods()
    container = pod.shell("exit 7")
    started = listener.wait(container, "started")
    stopped = listener.wait(container, "stopped")
    assert started.pod_sandbox_status.id == pod.id
    assert started.pod_sandbox_status.metadata.uid == pod.config.metadata.uid
    assert started.pod_sandbox_status.state == pb.SANDBOX_READY
    assert started.pod_sandbox_status.network.ip
    (status,) = stopped.containers_statuses
    assert (status.id, status.state, status.exit_code, status.reason) == (container, pb.CONTAINER_EXITED, 7, "Error")
    assert status.finished_at > 0
    cri.remove(container)
    deleted = listener.wait(container, "deleted")
    assert not deleted.containers_statuses
    assert deleted.pod_sandbox_status.id == pod.id
    times = [one.created_at for one in listener.events]
    assert times == sorted(times)
    cri.remove_pod(pod.id)
    assert listener.wait(pod.id, "deleted").pod_sandbox_status.metadata.uid == pod.config.metadata.uid


@pytest.mark.parametrize("victim", ["runtime", "supervisor", "spawner", "storage", "network"])
def test_the_death_of_a_worker_loses_no_event(cri, pods, daemon, listener, victim):
    pod = pods()
    container = pod.shell("sleep 1; exit 5")
    listener.wait(container, "started")
    daemon.kill(victim)
    assert listener.wait(container, "stopped").containers_statuses[0].exit_code == 5
    cri.remove(container)
    listener.wait(container, "deleted")
    assert [kind for _, kind in listener.of(container)] == ["created", "started", "stopped", "deleted"]
    assert listener.error is None


def test_an_exit_while_the_front_is_away_is_told_to_whoever_comes_back(cri, pods, daemon, listener):
    pod = pods()
    container = pod.shell("trap 'exit 6' TERM; echo up; while true; do sleep 0.1; done")
    until("its trap is set", lambda: pod.log(container) == [("stdout", "up")])
    earlier = pod.result("exit 4")[0].id
    listener.wait(earlier, "stopped")
    first = cri.info(container)["pid"]
    daemon.kill("front")
    os.kill(first, signal.SIGTERM)
    until("the stream ends", lambda: listener.error is not None, 10)
    cri.wait_exit(container)
    with listening(cri) as again:
        assert again.wait(container, "stopped").pod_sandbox_status.id == pod.id
        told = again.wait(earlier, "stopped")
        assert {one.id: one.exit_code for one in told.containers_statuses} == {container: 6, earlier: 4}


def test_removals_that_nobody_heard_of_are_told_to_whoever_comes_back(cri, pods, daemon):
    pod, other = pods(), pods()
    container, gone_with_it = pod.shell("sleep 600"), other.shell("sleep 600")
    cri.stop(container, 0)
    cri.remove(container)
    other.remove()
    for victims in (("front",), ("front", "supervisor", "spawner", "runtime")):
        for victim in victims:
            daemon.kill(victim)
        until("crisp is back", lambda: not isinstance(outcome(cri.status), grpc.RpcError), 20)
        with listening(cri) as again:
            assert again.wait(container, "deleted").pod_sandbox_status.id == pod.id
            assert again.wait(gone_with_it, "deleted").pod_sandbox_status.id == other.id
            deleted = again.wait(other.id, "deleted")
            assert deleted.pod_sandbox_status.metadata.uid == other.config.metadata.uid
            assert not deleted.containers_statuses
            assert again.of(container) == [(container, "stopped"), (container, "deleted")]


def test_a_stream_ends_in_order_with_its_front(cri, pods, daemon, listener):
    listener.wait(pods().id, "started")
    daemon.command("restart", "front")
    until("the stream ends", lambda: listener.error is not None, 10)
    assert listener.error is not None
    assert listener.error.code() == grpc.StatusCode.UNAVAILABLE


def test_pod_status_gives_the_statuses_of_its_containers(cri, pods):
    pod = pods()
    container = pod.shell(SLEEP)
    reply = outcome(lambda: cri.call("PodSandboxStatus", pod_sandbox_id=pod.id))
    assert [one.id for one in reply.containers_statuses] == [container]
    assert reply.timestamp > 0
