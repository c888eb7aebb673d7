"""ImageFsInfo: the sizes of the file systems, measured by storage in the background and answered from memory."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from kernel.contracts import storage
from kernel.contracts.definition import Nothing
from kernel.cri.generated import cri_pb2
from kernel.errors import CrispError
from kernel.front.context import Call, Front
from kernel.front.responses import image_views
from kernel.host.aio import Deadline

_LOG = logging.getLogger(__name__)
_STALE_SECONDS = 5.0
"""Seconds after which a request has the file systems measured again; the request is answered from the old
measurement."""
_WAIT_SECONDS = 0.5
"""Seconds that a request waits for a measurement under way."""
_MEASURE = ("measure file systems",)


async def image_fs_info(front: Front, request: cri_pb2.ImageFsInfoRequest, call: Call) -> cri_pb2.ImageFsInfoResponse:
    """Serve ImageFsInfo with the sizes last measured.

    The first call waits for storage; so does one after a pull or a removal, but not for long.
    """
    memory = front.images
    if memory.fs_info is None:
        await _measure(front, call.deadline)
    elif front.ends.running(_MEASURE):
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                await front.ends.wait(_MEASURE)
    elif time.monotonic() - memory.fs_info_read > _STALE_SECONDS:
        measure_again(front)
    assert memory.fs_info is not None  # measured above, or an error was raised
    return image_views.fs_info_to_cri(memory.fs_info, memory.fs_info_at)


def measure_again(front: Front) -> None:
    """Measure the file systems in the background, unless that is under way."""
    front.ends.ensure(_MEASURE, lambda: _measure_quietly(front), _MEASURE[0])


async def _measure_quietly(front: Front) -> None:
    try:
        await _measure(front, Deadline.after(storage.FS_INFO.deadline))
    except CrispError as error:
        _LOG.warning("the file systems could not be measured: %s", error)


async def _measure(front: Front, deadline: Deadline) -> None:
    found = await front.storage.call(storage.FS_INFO, Nothing(), deadline=deadline)
    front.images.fs_info = found
    front.images.fs_info_at = time.time_ns()
    front.images.fs_info_read = time.monotonic()
