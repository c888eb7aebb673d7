"""The front's watches of the runtime, network and supervisor processes, which run as long as the front does.

Each watch starts again after its worker's death, and its first message is the whole state. The runtime's reports are
applied to the records by `kernel.front.facts`; the others set fields of the replica.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import cast

from kernel.contracts import network, runtime, supervisor
from kernel.contracts.definition import Message, Nothing
from kernel.errors import CrispError
from kernel.front import facts, flows
from kernel.front.context import Front
from kernel.host.aio import FAILURES

_LOG = logging.getLogger(__name__)
_PAUSE = 1.0
"""Seconds before a watch that failed starts again; the client itself handles a worker's death."""

AfterFacts = Callable[[Front, runtime.Facts], Coroutine[object, object, None]]
"""A function that is run beside the watch each time the runtime has reported all that it holds."""


def begin(front: Front, after_facts: AfterFacts) -> None:
    """Start the three watches."""

    async def watch_runtime(front: Front) -> None:
        await follow_runtime(front, after_facts)

    for watch in (watch_runtime, watch_network, watch_health):
        keep(front, watch)


def keep(front: Front, watch: Callable[[Front], Coroutine[object, object, None]]) -> None:
    """Run a watch as long as the front; one that a bug has ended starts again, so that no exit is missed."""
    task = front.tasks.run(watch(front), watch.__name__.replace("_", " "))

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            FAILURES.report(task.get_name(), error)
        _LOG.warning("%s starts anew", task.get_name())
        asyncio.get_running_loop().call_later(_PAUSE, keep, front, watch)

    task.add_done_callback(ended)


async def follow_runtime(front: Front, after_facts: AfterFacts) -> None:
    """Apply exits and other changes of containers and pods to the records."""

    async def apply(event: Message) -> None:
        match event:
            case runtime.Facts():
                await facts.apply(front, event)
                front.tasks.spawn(after_facts(front, event), "after facts")
                front.tasks.spawn(_ask_platform(front), "ask for the platform")  # exits do not wait for it
            case runtime.Changed(fact=fact):
                await facts.container_changed(front, fact)
            case runtime.PodChanged(fact=fact):
                await facts.pod_changed(front, fact)
            case _:
                pass

    await follow("runtime", lambda: front.runtime.watch(runtime.WATCH, Nothing()), apply)


async def watch_network(front: Front) -> None:
    """Keep in the replica whether the network is ready."""

    async def apply(event: Message) -> None:
        if isinstance(event, network.Readiness):
            front.replica.network = event

    await follow("network", lambda: front.network.watch(network.WATCH_READY, Nothing()), apply)


async def watch_health(front: Front) -> None:
    """Keep in the replica which workers are down, and why."""

    async def apply(event: Message) -> None:
        if isinstance(event, supervisor.Health):
            front.replica.down = dict(event.down)

    await follow("supervisor", lambda: front.supervisor.watch(supervisor.WATCH_HEALTH, Nothing()), apply)


async def follow(
    worker: str, watch: Callable[[], AsyncIterator[Message]], apply: Callable[[Message], Awaitable[None]]
) -> None:
    """Apply each event of a watch, which starts again whenever it ends."""
    while True:
        try:
            async with aclosing(cast("AsyncGenerator[Message, None]", watch())) as events:
                async for event in events:
                    await apply(event)
        except CrispError as error:
            _LOG.warning("watching the %s worker: %s", worker, error)
        await asyncio.sleep(_PAUSE)  # not a wait: a watch that fails at once must not spin


async def _ask_platform(front: Front) -> None:
    """Keep the properties of the runtime on this host in the replica; request them until it answers."""

    async def ask() -> None:
        front.replica.platform = await front.runtime.call(runtime.PLATFORM, Nothing())

    try:
        await ask()
    except CrispError as error:
        _LOG.warning("what the runtime can do is not known yet: %s", error)
        flows.keep_trying(front, "asking for the platform", "runtime", ask)
