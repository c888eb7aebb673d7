"""How flows run: repeats join, steps go side by side, and what could not be finished is tried again.

A flow is a task of the front's that goes on when its caller leaves. Its intent is on disk before its first step and
ends in the commit that records the outcome; where a step fails for good the intent stays, and the flow is run again
in the background until it succeeds. Cancelling a flow (the front shuts down) leaves the intent to the next start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from kernel.contracts.records import Intent, IntentKind
from kernel.errors import CrispError
from kernel.front.context import Front
from kernel.host.aio import Joins

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
UNDO_SECONDS = 120.0
"""What taking away the traces of a failed flow may take."""
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 60.0


async def joined(
    joins: Joins[tuple[str, ...], _T], key: tuple[str, ...], flow: Callable[[], Coroutine[object, object, _T]]
) -> _T:
    """The result of the flow under way for `key`; begun where there is none."""
    if not joins.running(key):
        joins.begin(key, flow(), f"{key[0]} {key[1][:13]}")
    return await joins.wait(key)


async def all_of(*steps: Awaitable[object]) -> None:
    """Run steps side by side and wait for all of them, so that none still works while its traces are taken away."""
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def ended(task: asyncio.Task[_T]) -> None:
    """Wait for a flow whose outcome belongs to somebody else."""
    await asyncio.wait({task})


def begin(kind: IntentKind, name: str) -> Intent:
    """An intent that begins now."""
    return Intent(id=name, kind=kind, begun_at=time.time_ns())


def keep_trying(front: Front, what: str, name: str, flow: Callable[[], Awaitable[None]]) -> None:
    """Run `flow` again in the background, with growing pauses, until it succeeds."""
    key = ("retry", what, name)
    if not front.ends.running(key):
        front.ends.begin(key, _try(what, name, flow), f"retry {what} {name[:13]}")


async def _try(what: str, name: str, flow: Callable[[], Awaitable[None]]) -> None:
    delay = _FIRST_DELAY
    while True:
        await asyncio.sleep(delay)  # a pause, not a wait: nothing tells when the host has come to itself
        try:
            await flow()
        except CrispError as error:
            delay = min(delay * 2, _LONGEST_DELAY)
            _LOG.warning("%s of %s failed, again in %.0f s: %s", what, name[:13], delay, error)
        else:
            _LOG.info("%s of %s succeeded at last", what, name[:13])
            return
