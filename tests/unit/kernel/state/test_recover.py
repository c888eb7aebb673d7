"""Records against the host: what is repaired, what is swept, what is only reported."""

from __future__ import annotations

from typing import Literal

import pytest
from msgspec.structs import replace

from kernel.contracts import network, runtime, storage
from kernel.contracts.records import ContainerState, Exit, Intent, IntentKind, SandboxState
from kernel.contracts.runtime import ContainerFact, Facts, PodFact
from kernel.contracts.supervisor import Snapshot
from kernel.ids import ContainerId, DiffId, Digest, SandboxId
from kernel.state.recover import Evidence, Orphan, plan_repairs
from tests.unit.kernel.state.test_intents import BOOT, BOX, IMAGE, KEPT, LOOSE, POD

NOW = 1000
READY = replace(POD, state=SandboxState.READY)
RUNNING = replace(BOX, state=ContainerState.RUNNING, pid=7)
STRANGER = ContainerId("1" * 64)
STRANGE_POD = SandboxId("2" * 64)


def fact(
    state: Literal["created", "running", "exited", "unknown"] = "running",
    container: ContainerId = BOX.id,
    sandbox: SandboxId = POD.id,
    exit_code: int = 0,
    finished_at: int = 0,
) -> ContainerFact:
    return ContainerFact(
        container_id=container, sandbox_id=sandbox, state=state, pid=7, exit_code=exit_code, finished_at=finished_at
    )


def facts(*containers: ContainerFact, ready: bool = True) -> Facts:
    return Facts(pods=(PodFact(sandbox_id=POD.id, ready=ready),), containers=containers)


BASE = Snapshot(sandboxes=(READY,), containers=(RUNNING,), images=(IMAGE,), intents=(), exits=())
HOST = Evidence(
    boot_id=BOOT,
    now=NOW,
    facts=facts(fact()),
    storage=storage.Inventory(layers=(KEPT,), containers=(BOX.id,), mounted=(BOX.id,), partial=()),
    network=network.Inventory(namespaces=(POD.id,), attachments=(POD.id,), leases={"10.0.0.2": POD.id}),
    runtime=runtime.Inventory(pods=(POD.id,), containers=(BOX.id,), cgroups=()),
    blobs=frozenset(),
)


def with_evidence(**fields: object) -> Evidence:
    from dataclasses import replace as change

    return change(HOST, **fields)  # type: ignore[arg-type]


def test_all_is_well() -> None:
    plan = plan_repairs(BASE, HOST)
    assert (plan.containers, plan.sandboxes, plan.orphans) == ((), (), ())
    assert plan.commit().put_containers == ()


@pytest.mark.parametrize(
    ("said", "recorded", "code", "reason"),
    [
        (fact("exited", exit_code=3, finished_at=9), None, 3, "Error"),
        (fact("exited", exit_code=0), None, 0, "Completed"),
        (fact("unknown"), None, 255, "Unknown"),
        (None, None, 255, "Unknown"),
        (None, (137, True), 137, "OOMKilled"),
        (fact("unknown"), (5, False), 5, "Error"),
    ],
)
def test_an_exit_is_found_wherever_it_was_kept(
    said: ContainerFact | None, recorded: tuple[int, bool] | None, code: int, reason: str
) -> None:
    exits = () if recorded is None else (
        Exit(container_id=BOX.id, exit_code=recorded[0], finished_at=4, oom_killed=recorded[1]),
    )  # fmt: skip
    snapshot = replace(BASE, exits=exits)
    plan = plan_repairs(snapshot, with_evidence(facts=facts(*([said] if said else []))))
    (repair,) = plan.containers
    assert (repair.container.state, repair.container.exit_code) == (ContainerState.EXITED, code)
    assert repair.container.reason == reason
    assert repair.container.finished_at > 0
    assert repair.container.id[:13] in repair.describe()


UNKNOWN = replace(RUNNING, state=ContainerState.UNKNOWN)
UNREADABLE = Facts(pods=(PodFact(sandbox_id=POD.id, ready=True),), containers=(), unreadable=(BOX.id,))


def test_a_container_whose_state_cannot_be_read_is_unknown_and_never_ended() -> None:
    (repair,) = plan_repairs(BASE, with_evidence(facts=UNREADABLE)).containers
    assert repair.container == UNKNOWN
    assert "is unknown: the runtime cannot read its state" in repair.describe()
    assert plan_repairs(replace(BASE, containers=(UNKNOWN,)), with_evidence(facts=UNREADABLE)).containers == ()


@pytest.mark.parametrize(
    ("now_said", "state"),
    [
        (facts(fact()), ContainerState.RUNNING),
        (facts(fact("created")), ContainerState.CREATED),
        (facts(fact("exited", exit_code=3)), ContainerState.EXITED),
        (facts(), ContainerState.EXITED),
    ],
)
def test_what_becomes_of_an_unknown_container_once_the_runtime_knows(now_said: Facts, state: ContainerState) -> None:
    (repair,) = plan_repairs(replace(BASE, containers=(UNKNOWN,)), with_evidence(facts=now_said)).containers
    assert repair.container.state is state


@pytest.mark.parametrize("state", [ContainerState.CREATING, ContainerState.EXITED])
def test_what_is_being_made_or_has_ended_does_not_become_unknown(state: ContainerState) -> None:
    snapshot = replace(BASE, containers=(replace(RUNNING, state=state),))
    assert plan_repairs(snapshot, with_evidence(facts=UNREADABLE)).containers == ()


def test_an_unreadable_container_has_ended_if_its_exit_was_recorded_or_the_host_was_booted() -> None:
    exited = replace(BASE, exits=(Exit(container_id=BOX.id, exit_code=5, finished_at=4, oom_killed=False),))
    (repair,) = plan_repairs(exited, with_evidence(facts=UNREADABLE)).containers
    assert (repair.container.state, repair.container.exit_code) == (ContainerState.EXITED, 5)
    (repair,) = plan_repairs(BASE, with_evidence(boot_id="next", facts=UNREADABLE)).containers
    assert repair.container.state is ContainerState.EXITED


def test_an_unreadable_container_without_a_record_is_reported_and_not_swept() -> None:
    snapshot = replace(BASE, containers=())
    found = {one.kind: one.sweep for one in plan_repairs(snapshot, with_evidence(facts=UNREADABLE)).orphans}
    assert found == {Orphan.CONTAINER: False, Orphan.ROOTFS: False}


def test_what_was_not_said_is_not_known() -> None:
    nobody = with_evidence(facts=None, storage=None, network=None, runtime=None, blobs=None)
    plan = plan_repairs(BASE, nobody)
    assert (plan.containers, plan.sandboxes, plan.orphans) == ((), (), ())


def test_a_boot_ends_pods_and_containers() -> None:
    plan = plan_repairs(BASE, with_evidence(boot_id="next", facts=facts(ready=False)))
    assert plan.sandboxes[0].sandbox.state is SandboxState.NOT_READY
    assert plan.containers[0].container.reason == "Unknown"
    assert "booted" in plan.containers[0].container.message


def test_a_created_container_that_runs_is_taken_as_running() -> None:
    snapshot = replace(BASE, containers=(replace(RUNNING, state=ContainerState.CREATED, pid=0),))
    (repair,) = plan_repairs(snapshot, HOST).containers
    assert (repair.container.state, repair.container.pid) == (ContainerState.RUNNING, 7)


@pytest.mark.parametrize(
    "evidence",
    [with_evidence(facts=facts(fact(), ready=False)), with_evidence(network=network.Inventory(
        namespaces=(), attachments=(), leases={}))],
)  # fmt: skip
def test_a_pod_without_its_namespaces_is_not_ready(evidence: Evidence) -> None:
    (repair,) = plan_repairs(BASE, evidence).sandboxes
    assert repair.sandbox.state is SandboxState.NOT_READY


def test_a_pod_on_the_hosts_network_needs_no_pin() -> None:
    snapshot = replace(BASE, sandboxes=(replace(READY, host_network=True),))
    evidence = with_evidence(network=network.Inventory(namespaces=(), attachments=(), leases={}))
    assert plan_repairs(snapshot, evidence).sandboxes == ()


def test_what_has_an_intent_is_left_to_its_flow() -> None:
    intents = tuple(
        Intent(id=id_, kind=kind, begun_at=1)
        for id_, kind in (
            (BOX.id, IntentKind.REMOVE_CONTAINER),
            (POD.id, IntentKind.STOP_SANDBOX),
            (STRANGER, IntentKind.CREATE_CONTAINER),
            (STRANGE_POD, IntentKind.RUN_SANDBOX),
        )
    )
    evidence = with_evidence(
        boot_id="next",
        runtime=runtime.Inventory(pods=(STRANGE_POD,), containers=(STRANGER,), cgroups=()),
        network=network.Inventory(namespaces=(STRANGE_POD,), attachments=(), leases={"10.0.0.3": STRANGE_POD}),
    )
    plan = plan_repairs(replace(BASE, intents=intents), evidence)
    assert (plan.containers, plan.sandboxes, plan.orphans) == ((), (), ())


STRANGE = with_evidence(
    storage=storage.Inventory(layers=(KEPT, LOOSE), containers=(STRANGER,), mounted=(STRANGER,), partial=("tmp1",)),
    network=network.Inventory(
        namespaces=(POD.id, STRANGE_POD), attachments=(STRANGE_POD,), leases={"10.0.0.3": STRANGE_POD}
    ),
    runtime=runtime.Inventory(pods=(STRANGE_POD,), containers=(STRANGER,), cgroups=("/crisp/x",)),
    blobs=frozenset({Digest("sha256:" + "8" * 64)}),
)


def test_orphans_are_swept_from_the_inside_out() -> None:
    plan = plan_repairs(BASE, STRANGE)
    assert [orphan.kind for orphan in plan.orphans] == list(Orphan)
    assert all(orphan.sweep for orphan in plan.orphans)
    network_orphan = plan.orphans[2]
    assert network_orphan.id == STRANGE_POD
    assert "10.0.0.3" in network_orphan.describe()


def test_nothing_that_runs_is_swept() -> None:
    from dataclasses import replace as change

    live = change(STRANGE, facts=facts(fact(), fact(container=STRANGER, sandbox=STRANGE_POD)))
    kept = {orphan.kind for orphan in plan_repairs(BASE, live).orphans if not orphan.sweep}
    assert kept == {Orphan.CONTAINER, Orphan.POD, Orphan.NETWORK, Orphan.ROOTFS}


def test_without_facts_anything_may_run() -> None:
    from dataclasses import replace as change

    kept = {orphan.kind for orphan in plan_repairs(BASE, change(STRANGE, facts=None)).orphans if not orphan.sweep}
    assert kept == {Orphan.CONTAINER, Orphan.POD, Orphan.NETWORK, Orphan.ROOTFS}


def test_a_rebuilt_state_sweeps_nothing() -> None:
    plan = plan_repairs(replace(BASE, damaged="set aside"), STRANGE)
    assert plan.orphans
    assert not any(orphan.sweep for orphan in plan.orphans)


def test_a_pull_under_way_keeps_its_layers_and_blobs() -> None:
    pull = Intent(id="image", kind=IntentKind.PULL_IMAGE, begun_at=1, layers=(DiffId(LOOSE),))
    kinds = {orphan.kind for orphan in plan_repairs(replace(BASE, intents=(pull,)), STRANGE).orphans}
    assert kinds == set(Orphan) - {Orphan.LAYER, Orphan.BLOB}


def test_what_an_image_keeps_in_the_blob_folder_stays() -> None:
    kept = replace(BASE, images=tuple(replace(image, blobs=("sha256:" + "8" * 64,)) for image in BASE.images))
    kinds = {orphan.kind for orphan in plan_repairs(kept, STRANGE).orphans}
    assert kinds == set(Orphan) - {Orphan.BLOB}


def test_a_container_whose_monitor_was_killed_says_so_once_and_to_its_end() -> None:
    lost = with_evidence(facts=facts(replace(fact(), monitor_lost=True)))
    (repair,) = plan_repairs(BASE, lost).containers
    assert repair.container.state is ContainerState.RUNNING
    assert "conmon" in repair.container.message
    told = replace(BASE, containers=(repair.container,))
    assert not plan_repairs(told, lost).containers
    (ended,) = plan_repairs(told, with_evidence(facts=facts(fact("exited", exit_code=3, finished_at=5)))).containers
    assert (ended.container.exit_code, ended.container.message) == (3, repair.container.message)
    (vanished,) = plan_repairs(told, with_evidence(facts=facts(fact("unknown")))).containers
    assert vanished.container.message.startswith(f"{repair.container.message}; ")
