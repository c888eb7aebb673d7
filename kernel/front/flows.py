"""How flows run: repeats join, steps run side by side, and a flow that could not be finished is tried again.

A flow is a task of the front that goes on when its caller leaves. Its intent is on disk before its first step and
ends in the commit that records the outcome; if a step fails for good the intent stays, and the flow is run again in
the background until it succeeds. Cancelling a flow (the front shuts down) leaves the intent to the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from kernel.contracts.records import Intent, IntentKind
from kernel.errors import CrispError
from kernel.front.context import Front
from kernel.host import aio
from kernel.ids import short

_T = TypeVar("_T")
UNDO_SECONDS = 120.0
"""Seconds that the undoing of a failed flow may take."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two tries in the background, which double from the first to the longest."""


async def join(front: Front, key: tuple[str, ...], flow: Callable[[], Coroutine[object, object, None]]) -> None:
    """Wait for the flow under way for `key`, its kind and the id it is about; begin it if there is none."""
    await front.ends.join(key, flow, f"{key[0]} {short(key[1])}")


async def all_of(*steps: Awaitable[object]) -> None:
    """Run steps side by side and wait for all of them, so that none is still at work while they are undone.

    Raise the first error. An error of crisp's own code comes before all others, which would hide it.
    """
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    bugs = [error for error in errors if not isinstance(error, CrispError | asyncio.CancelledError)]
    for error in (*bugs, *errors):
        raise error


async def ended(task: asyncio.Task[_T]) -> None:
    """Wait until a flow has ended, whatever its result; its caller receives that."""
    await asyncio.wait({task})


def intent(kind: IntentKind, about: str) -> Intent:
    """Return an intent of this moment, about the sandbox, container or image with this id."""
    return Intent(id=about, kind=kind, begun_at=time.time_ns())


def keep_trying(front: Front, what: str, about: str, flow: Callable[[], Awaitable[None]]) -> None:
    """Run `flow` again in the background, with growing pauses, until it succeeds.

    `what` names the work in the log, `about` is the id or the worker that it is about.
    """

    async def attempt() -> bool:
        await flow()
        return True

    def retry() -> Coroutine[object, object, None]:
        return aio.keep_trying(
            attempt, f"{what} of {short(about)}", first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, at_once=False
        )

    front.ends.ensure(("retry", what, about), retry, f"retry {what} {short(about)}")
