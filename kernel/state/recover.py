"""The records compared with the host: repairs to records, and things on the host without an owner. Pure.

The front plans at start-up and again when a worker that was away comes back, carries out what `plan_repairs`
returns and commits the changed records; `crisp doctor` prints the same plan's orphans.

Assumptions:
1. Things that a worker did not report are unknown: evidence that is None leads to no repair. Facts that do not name a
   container mean that it is gone. A container that they name as unreadable may run: it is UNKNOWN, never EXITED, or
   the kubelet would start another beside it.
2. An object with an intent is left to its flow (`kernel.state.intents`), in records and on the host.
3. The supervisor's exit records and the runtime's facts agree on an exit; the record counts if only it is left.
4. Nothing that runs is removed: an orphan with a live process is reported, with `sweep` false.
5. If the state was rebuilt (`Snapshot.damaged`), everything on the host looks like an orphan: nothing is swept.
6. Another boot means that no process, mount or namespace from before is left, whatever was recorded.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from msgspec.structs import replace

from kernel.contracts import network, runtime, storage
from kernel.contracts.records import Container, ContainerState, Exit, IntentKind, Sandbox, SandboxState
from kernel.contracts.runtime import ContainerFact, Facts
from kernel.contracts.supervisor import Commit, Snapshot
from kernel.ids import Digest, short
from kernel.state import lifecycle


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The present content of the host, by the workers' inventories; None if a worker did not answer."""

    boot_id: str
    now: int
    """The present time, in nanoseconds since 1970."""
    facts: Facts | None = None
    storage: storage.Inventory | None = None
    network: network.Inventory | None = None
    runtime: runtime.Inventory | None = None
    blobs: frozenset[Digest] | None = None
    """Digests of the blobs that the image worker holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRepair:
    """A container whose record no longer matches the host."""

    container: Container
    """The corrected record."""
    why: str

    def describe(self) -> str:
        """Return a description for the log and for people."""
        return f"container {short(self.container.id)} is {self.container.state.value}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRepair:
    """A sandbox whose record no longer matches the host."""

    sandbox: Sandbox
    why: str

    def describe(self) -> str:
        """Return a description for the log and for people."""
        return f"pod sandbox {short(self.sandbox.id)} is {self.sandbox.state.value}: {self.why}"


class Orphan(enum.Enum):
    """Kinds of things on the host without an owner, in the order in which they are removed, each with its call."""

    CONTAINER = "container"
    """runtime.remove"""
    POD = "pod"
    """runtime.remove_pod"""
    NETWORK = "network"
    """network.detach: a namespace, an ADD without DEL, or a lease"""
    ROOTFS = "rootfs"
    """storage.unmount"""
    CGROUP = "cgroup"
    """runtime.sweep"""
    PARTIAL_LAYER = "partial_layer"
    """storage.sweep"""
    LAYER = "layer"
    """storage.remove_layer"""
    BLOB = "blob"
    """image.drop"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanFound:
    """One thing on the host without an owner."""

    kind: Orphan
    id: str
    """Id of the container or sandbox, digest, cgroup path or name of a temporary folder."""
    why: str
    sweep: bool = True
    """Whether it may be removed; if not, it is only reported."""

    def describe(self) -> str:
        """Return a description for the log and for people."""
        return f"{self.kind.value.replace('_', ' ')} {self.id}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repairs:
    """The plan: records first, in one commit; then the removals, in order."""

    containers: tuple[ContainerRepair, ...] = ()
    sandboxes: tuple[SandboxRepair, ...] = ()
    orphans: tuple[OrphanFound, ...] = ()

    def commit(self) -> Commit:
        """Return the changed records as one transaction."""
        return Commit(
            put_sandboxes=tuple(repair.sandbox for repair in self.sandboxes),
            put_containers=tuple(repair.container for repair in self.containers),
        )


def plan_repairs(snapshot: Snapshot, evidence: Evidence) -> Repairs:
    """Compare the records with the host."""
    busy = {intent.id for intent in snapshot.intents}
    return Repairs(
        containers=tuple(_containers(snapshot, evidence, busy)),
        sandboxes=tuple(_sandboxes(snapshot, evidence, busy)),
        orphans=tuple(_orphans(snapshot, evidence, busy)),
    )


def container_repair(
    container: Container,
    fact: ContainerFact | None,
    exit_: Exit | None,
    *,
    boot_id: str,
    now: int,
    unreadable: bool = False,
) -> ContainerRepair | None:
    """Return the corrected record of one container, by the runtime's fact and the exit record; None if it is right.

    `fact` is None if the runtime holds no such container, or, with `unreadable`, if it cannot read the container's
    state.
    """
    if unreadable and exit_ is None and container.boot_id == boot_id:
        after, why = _obscured(container)
    else:
        after, why = _container_after(container, fact, exit_, boot_id, now)
    return None if after == container else ContainerRepair(container=after, why=why)


def _container_after(
    container: Container, fact: ContainerFact | None, exit_: Exit | None, boot_id: str, now: int
) -> tuple[Container, str]:
    if container.state is ContainerState.EXITED:
        return container, ""
    booted = container.boot_id != boot_id
    if fact is not None and fact.state == "exited":
        return _exited(container, fact.exit_code, fact.finished_at or now, fact.oom_killed), "the runtime saw its end"
    if exit_ is not None:
        return _exited(container, exit_.exit_code, exit_.finished_at, exit_.oom_killed), "its exit was recorded"
    if booted or fact is None or fact.state == "unknown":
        why = (
            "the host was booted while it ran" if booted
            else "the runtime holds nothing of it" if fact is None
            else "its process is gone and left no exit code"
        )  # fmt: skip
        return lifecycle.container_vanished(container, now=now, why=why), why
    if fact.monitor_lost and container.message != lifecycle.MONITOR_LOST:
        after, _ = _container_after(container, replace(fact, monitor_lost=False), None, boot_id, now)
        return lifecycle.container_unmonitored(after), "its conmon was killed"
    if fact.state == "running" and container.state is not ContainerState.RUNNING:
        if container.state is ContainerState.CREATING:
            return container, ""  # its intent's flow will finish it
        return lifecycle.container_started(container, started_at=fact.started_at or now, pid=fact.pid), "it runs"
    if fact.state == "created" and container.state is ContainerState.UNKNOWN:
        created = lifecycle.container_created(
            container, pid=fact.pid, uid=container.uid, gid=container.gid,
            supplemental_groups=container.supplemental_groups, stop_signal=container.stop_signal,
        )  # fmt: skip
        return created, "its process waits to be started"
    return container, ""


def _obscured(container: Container) -> tuple[Container, str]:
    if container.state in (ContainerState.CREATING, ContainerState.EXITED):
        return container, ""  # its intent's flow will finish it, or its end is recorded
    return lifecycle.container_obscured(container), "the runtime cannot read its state"


def _exited(container: Container, exit_code: int, finished_at: int, oom_killed: bool) -> Container:
    return lifecycle.container_exited(container, exit_code=exit_code, finished_at=finished_at, oom_killed=oom_killed)


def _containers(snapshot: Snapshot, evidence: Evidence, busy: set[str]) -> Iterator[ContainerRepair]:
    if evidence.facts is None:
        return
    facts = {fact.container_id: fact for fact in evidence.facts.containers}
    exits = {exit_.container_id: exit_ for exit_ in snapshot.exits}
    for container in snapshot.containers:
        if container.id in busy:
            continue
        repair = container_repair(
            container,
            facts.get(container.id),
            exits.get(container.id),
            boot_id=evidence.boot_id,
            now=evidence.now,
            unreadable=container.id in evidence.facts.unreadable,
        )
        if repair:
            yield repair


def _sandboxes(snapshot: Snapshot, evidence: Evidence, busy: set[str]) -> Iterator[SandboxRepair]:
    ready = None if evidence.facts is None else {fact.sandbox_id for fact in evidence.facts.pods if fact.ready}
    pinned = None if evidence.network is None else set(evidence.network.namespaces)
    for sandbox in snapshot.sandboxes:
        if sandbox.id in busy or sandbox.state is SandboxState.NOT_READY:
            continue
        why = ""
        if sandbox.boot_id != evidence.boot_id:
            why = "the host was booted since it was made"
        elif ready is not None and sandbox.id not in ready:
            why = "its namespaces are gone, or its pause process ended"
        elif pinned is not None and not sandbox.host_network and sandbox.id not in pinned:
            why = "its network namespace is gone"
        if why:
            yield SandboxRepair(sandbox=lifecycle.sandbox_stopped(sandbox), why=why)


def _orphans(snapshot: Snapshot, evidence: Evidence, busy: set[str]) -> Iterator[OrphanFound]:
    found = [
        *_runtime_orphans(snapshot, evidence, busy),
        *_network_orphans(snapshot, evidence, busy),
        *_storage_orphans(snapshot, evidence, busy),
    ]
    order = list(Orphan)
    for orphan in sorted(found, key=lambda orphan: order.index(orphan.kind)):
        if snapshot.damaged and orphan.sweep:
            yield OrphanFound(kind=orphan.kind, id=orphan.id, why=f"{orphan.why}; the state was rebuilt", sweep=False)
        else:
            yield orphan


@dataclass(frozen=True, slots=True)
class _Live:
    """Containers with a process and their pods; if `known` is false, anything may be alive."""

    known: bool
    ids: frozenset[str]

    @classmethod
    def of(cls, facts: Facts | None) -> _Live:
        if facts is None:
            return cls(False, frozenset())
        alive = [fact for fact in facts.containers if fact.state in ("created", "running")]
        ids = {id_ for fact in alive for id_ in (fact.container_id, fact.sandbox_id)}
        return cls(True, frozenset(ids.union(facts.unreadable)))

    def may(self, id_: str) -> bool:
        return not self.known or id_ in self.ids


def _runtime_orphans(snapshot: Snapshot, evidence: Evidence, busy: set[str]) -> Iterator[OrphanFound]:
    inventory, live = evidence.runtime, _Live.of(evidence.facts)
    if inventory is None:
        return
    for container in _missing(inventory.containers, {container.id for container in snapshot.containers} | busy):
        alive = live.may(container)
        why = "it may run and belongs to no record" if alive else "it belongs to no record"
        yield OrphanFound(kind=Orphan.CONTAINER, id=container, why=why, sweep=not alive)
    for pod in _missing(inventory.pods, {sandbox.id for sandbox in snapshot.sandboxes} | busy):
        yield OrphanFound(kind=Orphan.POD, id=pod, why="it belongs to no record", sweep=not live.may(pod))
    for cgroup in inventory.cgroups:
        yield OrphanFound(kind=Orphan.CGROUP, id=cgroup, why="it belongs to no pod or container")


def _network_orphans(snapshot: Snapshot, evidence: Evidence, busy: set[str]) -> Iterator[OrphanFound]:
    inventory, live = evidence.network, _Live.of(evidence.facts)
    if inventory is None:
        return
    held: dict[str, list[str]] = {}
    for sandbox in inventory.namespaces:
        held.setdefault(sandbox, []).append("a namespace")
    for sandbox in inventory.attachments:
        held.setdefault(sandbox, []).append("an attachment")
    for address, lessee in inventory.leases.items():
        held.setdefault(lessee, []).append(f"the lease of {address}")
    for unknown in _missing(held, {sandbox.id for sandbox in snapshot.sandboxes} | busy):
        why = f"{', '.join(held[unknown])} without a record"
        yield OrphanFound(kind=Orphan.NETWORK, id=unknown, why=why, sweep=not live.may(unknown))


def _storage_orphans(snapshot: Snapshot, evidence: Evidence, busy: set[str]) -> Iterator[OrphanFound]:
    inventory, live = evidence.storage, _Live.of(evidence.facts)
    if inventory is not None:
        containers = {container.id for container in snapshot.containers}
        for container in _missing((*inventory.containers, *inventory.mounted), containers | busy):
            why = "its container has no record"
            yield OrphanFound(kind=Orphan.ROOTFS, id=container, why=why, sweep=not live.may(container))
        for name in inventory.partial:
            yield OrphanFound(kind=Orphan.PARTIAL_LAYER, id=name, why="unpacking was cut off")
        needed = {layer.diff_id for image in snapshot.images for layer in image.layers}
        pulling = {diff_id for intent in snapshot.intents for diff_id in intent.layers}
        for layer in _missing(inventory.layers, needed | pulling):
            yield OrphanFound(kind=Orphan.LAYER, id=layer, why="it belongs to no image")
    pulls = any(intent.kind is IntentKind.PULL_IMAGE for intent in snapshot.intents)
    if evidence.blobs is not None and not pulls:
        for blob in _missing(evidence.blobs, {blob for image in snapshot.images for blob in image.blobs}):
            yield OrphanFound(kind=Orphan.BLOB, id=blob, why="no image has it and no pull needs it")


def _missing(found: Iterable[str], known: Set[str]) -> list[str]:
    return sorted(set(found) - known)
