"""GetContainerEvents: the stream of changes of the records (`kernel.front.memory.subscribers`)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kernel.cri.generated import cri_pb2 as cri
from kernel.front.context import Call, Front


async def get_container_events(front: Front, request: cri.GetEventsRequest, call: Call) -> AsyncIterator[bytes]:
    """Serve GetContainerEvents: yield events until the caller leaves, falls behind, or the front ends."""
    async for event in front.subscribers.follow(front.replica):
        yield event
