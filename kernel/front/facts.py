"""Applies what the runtime worker reports about containers and pods to the front's records.

An object with a flow of its own (an intent) is left to the flow. `kernel.front.watches` calls this with each report;
a flow that cannot wait for one calls `refresh`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from msgspec.structs import replace

from kernel.contracts import runtime
from kernel.contracts.definition import Message, Nothing
from kernel.contracts.records import Container, ContainerState, Sandbox, SandboxState
from kernel.contracts.supervisor import Commit
from kernel.errors import Unavailable
from kernel.front.context import Front
from kernel.host.aio import Deadline
from kernel.state import lifecycle
from kernel.state.recover import Evidence, container_repair, plan_repairs

_LOG = logging.getLogger(__name__)
_COMMIT_SECONDS = 30.0


async def ask(front: Front, deadline: Deadline) -> runtime.Facts:
    """Return all facts that the runtime holds now: the first message of a watch."""
    watch = cast("AsyncGenerator[Message, None]", front.runtime.watch(runtime.WATCH, Nothing()))
    async with deadline.limit("asking the runtime worker what runs"), aclosing(watch) as events:
        async for event in events:
            if isinstance(event, runtime.Facts):
                return event
    raise Unavailable("the runtime worker did not report what runs")


async def refresh(front: Front, deadline: Deadline) -> None:
    """Request the runtime's present facts, and apply them."""
    await apply(front, await ask(front, deadline))


async def apply(front: Front, facts: runtime.Facts) -> None:
    """Apply everything that the runtime holds; `facts` must not be older than any record."""
    evidence = Evidence(boot_id=front.boot_id, now=time.time_ns(), facts=facts)
    # The plan is made before anything is awaited: later a record may be younger than the facts.
    repairs = plan_repairs(front.replica.snapshot(), evidence)
    containers, sandboxes = {**front.replica.containers}, {**front.replica.sandboxes}
    by_id = {fact.container_id: fact for fact in facts.containers}
    for repair in repairs.containers:
        _LOG.info("%s", repair.describe())
        before = containers[repair.container.id]
        await _change_container(front, before, repair.container, by_id.get(before.id))
    for pod in repairs.sandboxes:
        _LOG.info("%s", pod.describe())
        await _change_sandbox(front, sandboxes[pod.sandbox.id], pod.sandbox)


async def container_changed(front: Front, fact: runtime.ContainerFact) -> None:
    """Apply a change of one container. While it is being created its flow records the outcome itself."""

    def plan() -> Commit | None:
        record = front.replica.containers.get(fact.container_id)
        if record is None or record.state is ContainerState.CREATING:
            return None
        return _repaired(front, record, fact)

    await front.replica.change(fact.container_id, plan, Deadline.after(_COMMIT_SECONDS))


async def pod_changed(front: Front, fact: runtime.PodFact) -> None:
    """Apply a change of one pod: a pod that is no longer ready is NOT_READY, unless a flow is at work on it."""
    record = front.replica.sandboxes.get(fact.sandbox_id)
    if fact.ready or record is None or record.state is not SandboxState.READY or record.id in front.replica.intents:
        return
    await _change_sandbox(front, record, lifecycle.sandbox_stopped(record))


async def _change_container(
    front: Front, before: Container, after: Container, fact: runtime.ContainerFact | None
) -> None:
    """Put the planned record; if the record has changed since the plan, apply the fact alone to it."""

    def plan() -> Commit | None:
        record = front.replica.containers.get(before.id)
        if record is before:
            return _put(after, fact)
        return None if record is None or fact is None else _repaired(front, record, fact)

    await front.replica.change(before.id, plan, Deadline.after(_COMMIT_SECONDS))


async def _change_sandbox(front: Front, before: Sandbox, after: Sandbox) -> None:
    def plan() -> Commit | None:
        return Commit(put_sandboxes=(after,)) if front.replica.sandboxes.get(before.id) is before else None

    await front.replica.change(before.id, plan, Deadline.after(_COMMIT_SECONDS))


def _repaired(front: Front, record: Container, fact: runtime.ContainerFact) -> Commit | None:
    repair = container_repair(record, fact, None, boot_id=front.boot_id, now=time.time_ns())
    return _put(repair.container, fact) if repair else None


def _put(container: Container, fact: runtime.ContainerFact | None) -> Commit:
    if fact is not None and fact.started_at and not container.started_at:
        container = replace(container, started_at=fact.started_at)
    return Commit(put_containers=(container,))
