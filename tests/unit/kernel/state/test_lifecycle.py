"""Every pair of state and event of both tables, and the functions that change records."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from kernel.contracts.records import Container, ContainerState, Sandbox, SandboxState
from kernel.errors import FailedPrecondition
from kernel.ids import ContainerId, Digest, ImageId, SandboxId
from kernel.state import lifecycle
from kernel.state.lifecycle import ContainerEvent, SandboxEvent

SANDBOX = Sandbox(
    id=SandboxId("a" * 64), name="p", namespace="n", uid="u", attempt=0, state=SandboxState.CREATING, created_at=1,
    handler="", config=b"",
)  # fmt: skip
CONTAINER = Container(
    id=ContainerId("b" * 64), sandbox_id=SANDBOX.id, name="c", attempt=0, state=ContainerState.CREATING, created_at=1,
    config=b"", image_id=ImageId(Digest("sha256:" + "c" * 64)), image_ref="r", image_name="i",
)  # fmt: skip


def table() -> list[tuple[str, str, str, str]]:
    """The two tables of the module's docstring: kind, state, event, state after; `-` where it cannot happen."""
    found, kind, events = [], "", []
    for line in (lifecycle.__doc__ or "").splitlines():
        words = line.split()
        if words[:1] in (["sandbox"], ["container"]) and words[1].isupper():
            kind, events = words[0], words[1:]
        elif kind and words and words[0].isupper():
            found += [(kind, words[0], event, after) for event, after in zip(events, words[1:], strict=True)]
    return found


def test_the_docstring_shows_every_pair() -> None:
    pairs = {(kind, state, event) for kind, state, event, _ in table()}
    sandbox = {("sandbox", s.name, e.name) for s, e in itertools.product(SandboxState, SandboxEvent)}
    container = {("container", s.name, e.name) for s, e in itertools.product(ContainerState, ContainerEvent)}
    assert pairs == sandbox | container


@pytest.mark.parametrize(("kind", "state", "event", "after"), table())
def test_every_pair(kind: str, state: str, event: str, after: str) -> None:
    def act() -> object:
        if kind == "sandbox":
            return lifecycle.sandbox_after(SandboxState[state], SandboxEvent[event])
        return lifecycle.container_after(ContainerState[state], ContainerEvent[event])

    if after == "-":
        with pytest.raises(FailedPrecondition, match=event.lower()):
            act()
    else:
        assert act() is (SandboxState if kind == "sandbox" else ContainerState)[after]


def test_a_life() -> None:
    created = lifecycle.container_created(
        CONTAINER, pid=7, uid=1, gid=2, supplemental_groups=(3,), stop_signal="SIGTERM"
    )
    running = lifecycle.container_started(created, started_at=5)
    exited = lifecycle.container_exited(running, exit_code=3, finished_at=9, oom_killed=False)
    assert (running.state, running.pid, running.started_at) == (ContainerState.RUNNING, 7, 5)
    assert (exited.state, exited.pid, exited.exit_code, exited.finished_at) == (ContainerState.EXITED, 0, 3, 9)
    assert exited.reason == "Error"


def test_the_first_end_counts() -> None:
    exited = lifecycle.container_exited(
        msgspec.structs.replace(CONTAINER, state=ContainerState.RUNNING), exit_code=0, finished_at=9, oom_killed=True
    )
    assert exited.reason == "OOMKilled"
    assert lifecycle.container_exited(exited, exit_code=1, finished_at=10, oom_killed=False) is exited
    assert lifecycle.container_vanished(exited, now=10, why="gone") is exited
    with pytest.raises(FailedPrecondition):
        lifecycle.container_started(exited, started_at=11)


def test_a_container_that_vanished_has_the_unknown_code() -> None:
    gone = lifecycle.container_vanished(
        msgspec.structs.replace(CONTAINER, state=ContainerState.RUNNING), now=4, why="no trace"
    )
    assert (gone.exit_code, gone.reason, gone.message, gone.finished_at) == (255, "Unknown", "no trace", 4)


def test_a_sandbox_keeps_what_its_network_holds() -> None:
    made = lifecycle.sandbox_made(SANDBOX, ips=("10.0.0.2",), network_up=True, cgroup="/x")
    stopped = lifecycle.sandbox_stopped(made)
    assert (made.state, made.ips, made.cgroup) == (SandboxState.READY, ("10.0.0.2",), "/x")
    assert (stopped.state, stopped.network_up) == (SandboxState.NOT_READY, True)
    assert not lifecycle.sandbox_stopped(stopped, network_up=False).network_up


@pytest.mark.parametrize(
    ("code", "oom", "reason"), [(0, False, "Completed"), (1, False, "Error"), (137, True, "OOMKilled")]
)
def test_reasons(code: int, oom: bool, reason: str) -> None:
    assert lifecycle.exit_reason(code, oom_killed=oom) == reason
