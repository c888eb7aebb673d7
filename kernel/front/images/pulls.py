"""PullImage: equal pulls join, and a pull whose callers have all left ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kernel.cri.generated import cri_pb2
from kernel.front.context import Call, Front
from kernel.front.images import fs_info, pull_flow
from kernel.front.memory.image_memory import PullProgress, PullUnderWay
from kernel.front.requests import image_spec
from kernel.front.requests.image_spec import PullPlan
from kernel.host.aio import FAILURES, Deadline, result_of
from kernel.ids import ImageId

_LOG = logging.getLogger(__name__)
ABANDONED_SECONDS = 5.0
"""Seconds that a pull goes on with no caller: a kubelet that has lost the connection repeats its call at once."""


async def pull_image(front: Front, request: cri_pb2.PullImageRequest, call: Call) -> cri_pb2.PullImageResponse:
    """Serve PullImage."""
    namespace = request.sandbox_config.metadata.namespace
    under_way = await begin(front, request.image, request.auth, namespace, call)
    async with waiting(front, under_way):
        return cri_pb2.PullImageResponse(image_ref=await result(under_way))


@asynccontextmanager
async def waiting(front: Front, pull: PullUnderWay) -> AsyncIterator[None]:
    """Count a call as waiting for a pull during the body.

    A pull that no call waits for ends, after a moment in which its caller may repeat the call.
    """
    pull.waiting += 1
    try:
        yield
    finally:
        pull.waiting -= 1
        if not pull.waiting and not pull.task.done():
            front.tasks.spawn(_abandon(front, pull), f"abandon {pull.task.get_name()}")


async def result(pull: PullUnderWay) -> ImageId:
    """Return the id of the pulled image, or raise the pull's error."""
    return await result_of(pull.task)


async def _abandon(front: Front, pull: PullUnderWay) -> None:
    await asyncio.wait([pull.task], timeout=ABANDONED_SECONDS)
    if pull.task.done() or pull.waiting or pull.progress.abandoned:
        return
    _LOG.info("%s ends: nobody waits for it any more", pull.task.get_name())
    pull.progress.abandoned = True
    _forget(front, pull)  # a call from now on begins a new pull, which waits for the end of this one
    pull.task.cancel()


def _ended(front: Front, pull: PullUnderWay) -> None:
    _forget(front, pull)
    if not pull.waiting and not pull.task.cancelled() and (error := pull.task.exception()) is not None:
        FAILURES.report(pull.task.get_name(), error)  # its callers have left, so no other code retrieves the error


def _forget(front: Front, pull: PullUnderWay) -> None:
    for key, known in list(front.images.pulls.items()):
        if known is pull:
            del front.images.pulls[key]


async def begin(
    front: Front, spec: cri_pb2.ImageSpec, auth: cri_pb2.AuthConfig, namespace: str, call: Call
) -> PullUnderWay:
    """Return the pull for a request: the one that runs already, or a new one."""
    await front.short_names.refresh(spec.image)
    plan = image_spec.pull_of(spec, auth, namespace, front.short_names.candidates)
    key = image_spec.join_key(plan)
    pulls = front.images.pulls
    if key not in pulls:
        progress = PullProgress()
        flow = _pull(front, plan, progress, call.flow_deadline(pull_flow.PULL_SECONDS))
        pulls[key] = pull = PullUnderWay(progress, front.tasks.run(flow, f"pull {plan}"))
        pull.task.add_done_callback(lambda _: _ended(front, pull))
    return pulls[key]


async def _pull(front: Front, plan: PullPlan, progress: PullProgress, deadline: Deadline) -> ImageId:
    image = await pull_flow.first(front, plan, progress, deadline)
    fs_info.measure_again(front)
    return image
