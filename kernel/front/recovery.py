"""Start-up of the front: load the records, watch the facts, finish or undo what a crash cut off."""

from __future__ import annotations

from kernel.contracts.contract import Nothing
from kernel.contracts.supervisor import LOAD
from kernel.front.context import Front


async def load(front: Front) -> None:
    """Fill the replica from the state on disk."""
    front.replica.load(await front.supervisor.call(LOAD, Nothing()))


def begin(front: Front) -> None:
    """Start the watches and the flows that were cut off."""
