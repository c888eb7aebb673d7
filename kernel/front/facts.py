"""What the runtime and the network say of the host, brought into the records as it is heard.

Three watches run as long as the front does; each starts anew after a worker's death, and its first message is whole
again. An object with a flow of its own (an intent) is left to the flow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import cast

from msgspec.structs import replace

from kernel.contracts import network, runtime, supervisor
from kernel.contracts.contract import Message, Nothing
from kernel.contracts.records import Container, ContainerState, Sandbox, SandboxState
from kernel.contracts.supervisor import Commit
from kernel.errors import CrispError, Unavailable
from kernel.front import flows
from kernel.front.containers import checkpoint
from kernel.front.context import Front
from kernel.host.aio import Deadline
from kernel.state import lifecycle
from kernel.state.recover import Evidence, container_repair, plan_repairs

_LOG = logging.getLogger(__name__)
_COMMIT_SECONDS = 30.0
_PAUSE = 1.0
"""After a watch that failed for another reason than its worker's death, which the client sees to."""


def begin(front: Front) -> None:
    """Start the three watches."""
    for watch in (watch_runtime, watch_network, watch_health):
        keep(front, watch)


def keep(front: Front, watch: Callable[[Front], Coroutine[object, object, None]]) -> None:
    """Run a watch as long as the front."""
    task = front.tasks.start(watch(front), watch.__name__.replace("_", " "))

    def ended(task: asyncio.Task[None]) -> None:
        """A watch ends with the front; by a bug of ours it must not end for good, or no exit would be heard of."""
        if not task.cancelled():
            _LOG.critical("%s ended and starts anew", task.get_name(), exc_info=task.exception())
            asyncio.get_running_loop().call_later(_PAUSE, keep, front, watch)

    task.add_done_callback(ended)


async def watch_runtime(front: Front) -> None:
    """Exits and other changes of containers and pods."""
    await follow("runtime", lambda: front.runtime.watch(runtime.WATCH, Nothing()), lambda event: _heard(front, event))


async def watch_network(front: Front) -> None:
    """Whether the network is ready."""

    async def heard(event: Message) -> None:
        if isinstance(event, network.Readiness):
            front.replica.network = event

    await follow("network", lambda: front.network.watch(network.WATCH_READY, Nothing()), heard)


async def watch_health(front: Front) -> None:
    """Which workers are down, and why."""

    async def heard(event: Message) -> None:
        if isinstance(event, supervisor.Health):
            front.replica.down = dict(event.down)

    await follow("supervisor", lambda: front.supervisor.watch(supervisor.WATCH_HEALTH, Nothing()), heard)


async def ask(front: Front, deadline: Deadline) -> runtime.Facts:
    """Everything that the runtime holds, now: the first message of a watch."""
    watch = cast("AsyncGenerator[Message, None]", front.runtime.watch(runtime.WATCH, Nothing()))
    async with deadline.limit("asking the runtime worker what runs"), aclosing(watch) as events:
        async for event in events:
            if isinstance(event, runtime.Facts):
                return event
    raise Unavailable("the runtime worker did not say what runs")


async def refresh(front: Front, deadline: Deadline) -> None:
    """Bring the records to what the runtime says now."""
    await apply(front, await ask(front, deadline))


async def apply(front: Front, facts: runtime.Facts) -> None:
    """Bring the records to `facts`, which are no older than any record is."""
    evidence = Evidence(boot_id=front.boot_id, now=time.time_ns(), facts=facts)
    # The plan is made before anything is awaited: later a record may be younger than the facts.
    repairs = plan_repairs(front.replica.snapshot(), evidence)
    before = {**front.replica.containers}, {**front.replica.sandboxes}
    named = {fact.container: fact for fact in facts.containers}
    for repair in repairs.containers:
        record, fact = before[0][repair.container.id], named.get(repair.container.id)
        _LOG.info("%s", repair.describe())
        await _change_container(front, record, repair.container, fact)
    for pod in repairs.sandboxes:
        _LOG.info("%s", pod.describe())
        await _change_sandbox(front, before[1][pod.sandbox.id], pod.sandbox)


async def follow(
    worker: str, watch: Callable[[], AsyncIterator[Message]], heard: Callable[[Message], Awaitable[None]]
) -> None:
    """Hear each event of a watch, which starts anew whenever it ends."""
    while True:
        try:
            async with aclosing(cast("AsyncGenerator[Message, None]", watch())) as events:
                async for event in events:
                    await heard(event)
        except CrispError as error:
            _LOG.warning("watching the %s worker: %s", worker, error)
        await asyncio.sleep(_PAUSE)  # not a wait: a watch that fails at once must not spin


async def _heard(front: Front, event: Message) -> None:
    match event:
        case runtime.Facts():
            await apply(front, event)
            front.tasks.start(checkpoint.thaw_forgotten(front, event), "thaw")
            front.tasks.start(_learn_quietly(front), "learn platform")  # exits do not wait for it
        case runtime.Changed(fact=fact):
            await _container_changed(front, fact)
        case runtime.PodChanged(fact=pod) if not pod.ready:
            record = front.replica.sandboxes.get(pod.sandbox)
            if record is not None and record.state is SandboxState.READY and record.id not in front.replica.intents:
                await _change_sandbox(front, record, lifecycle.sandbox_stopped(record))


async def _learn(front: Front) -> None:
    front.replica.platform = await front.runtime.call(runtime.PLATFORM, Nothing())


async def _learn_quietly(front: Front) -> None:
    try:
        await _learn(front)
    except CrispError as error:
        _LOG.warning("what the runtime can do is not known yet: %s", error)
        flows.keep_trying(front, "asking for the platform", "runtime", lambda: _learn(front))


async def _container_changed(front: Front, fact: runtime.ContainerFact) -> None:
    def plan() -> Commit | None:
        record = front.replica.containers.get(fact.container)
        if record is None or record.state is ContainerState.CREATING:
            return None  # its creation says itself how it went
        repair = container_repair(record, fact, None, boot_id=front.boot_id, now=time.time_ns())
        return _put(repair.container, fact) if repair else None

    await front.replica.change(fact.container, plan, Deadline.after(_COMMIT_SECONDS))


async def _change_container(
    front: Front, before: Container, after: Container, fact: runtime.ContainerFact | None
) -> None:
    """Put what was planned; where the record has changed since, only what the runtime said of it counts."""

    def plan() -> Commit | None:
        record = front.replica.containers.get(before.id)
        if record is before:
            return _put(after, fact)
        if record is None or fact is None:
            return None
        repair = container_repair(record, fact, None, boot_id=front.boot_id, now=time.time_ns())
        return _put(repair.container, fact) if repair else None

    await front.replica.change(before.id, plan, Deadline.after(_COMMIT_SECONDS))


async def _change_sandbox(front: Front, before: Sandbox, after: Sandbox) -> None:
    def plan() -> Commit | None:
        return Commit(put_sandboxes=(after,)) if front.replica.sandboxes.get(before.id) is before else None

    await front.replica.change(before.id, plan, Deadline.after(_COMMIT_SECONDS))


def _put(container: Container, fact: runtime.ContainerFact | None) -> Commit:
    if fact is not None and fact.started_at and not container.started_at:
        container = replace(container, started_at=fact.started_at)
    return Commit(put_containers=(container,))
