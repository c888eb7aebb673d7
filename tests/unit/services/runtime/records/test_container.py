from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import FailedPrecondition, Internal
from kernel.host.pidfd import Identity
from kernel.ids import ContainerId, SandboxId
from services.runtime.records.bundle import ContainerBundle, ContainerState
from services.runtime.records.container import UNKNOWN_EXIT_CODE, Container

CONTAINER = ContainerId("c" * 64)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    bundle = ContainerBundle(tmp_path, CONTAINER)
    bundle.path.mkdir(parents=True)
    state = ContainerState(
        phase="created", sandbox_id=SandboxId("a" * 64), handler="runc", cgroup="/x", conmon_cgroup="/y",
        process=Identity(pid=7, start=2, boot="b"),
    )  # fmt: skip
    return Container(CONTAINER, bundle, state)


def test_what_is_reported_follows_its_state(container: Container) -> None:
    fact = container.fact()
    assert (fact.container_id, fact.sandbox_id, fact.state, fact.pid) == (CONTAINER, "a" * 64, "created", 7)
    container.change(phase="starting", started_at=5)
    assert (container.fact().state, container.fact().started_at) == ("running", 5)
    container.monitor_lost = True
    assert container.fact().monitor_lost
    container.exit_code = 3
    container.exited.set()
    fact = container.fact()
    assert (fact.state, fact.pid, fact.exit_code, fact.monitor_lost) == ("exited", 0, 3, False)
    container.known, container.exit_code = False, UNKNOWN_EXIT_CODE
    assert container.fact().state == "unknown"


def test_a_change_is_on_disk(container: Container) -> None:
    container.change(phase="started", started_at=5)
    assert container.bundle.state.read() == container.state
    assert container.state.started_at == 5


def test_it_runs_from_the_beginning_of_its_start_to_its_end(container: Container) -> None:
    for phase in ("created", "starting", "started"):
        container.change(phase=phase)
        if phase == "created":
            with pytest.raises(FailedPrecondition, match="is not running"):
                container.check_running()
        else:
            container.check_running()
    container.exited.set()
    with pytest.raises(FailedPrecondition, match="is not running"):
        container.check_running()


def test_only_a_restored_one_waits_for_its_restore(container: Container) -> None:
    assert not container.waits_for_restore
    container.change(restores=True)
    assert container.waits_for_restore
    container.change(phase="starting")
    assert not container.waits_for_restore


def test_a_request_that_cannot_be_read_is_an_error(container: Container) -> None:
    with pytest.raises(Internal, match="its request cannot be read"):
        container.request()
