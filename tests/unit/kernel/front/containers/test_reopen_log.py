"""ReopenContainerLog, before workers of paper; with real ones in tests/integration/cri/test_containers.py."""

from __future__ import annotations

import pytest

from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition
from kernel.front.containers import reopen_log
from kernel.front.context import Front
from tests.harness.fakes import pod_workers as fakes


async def test_only_a_running_container_has_its_log_reopened(front: Front, host: fakes.Host, pod: str) -> None:
    container = await fakes.create(front, pod)
    request = cri.ReopenContainerLogRequest(container_id=container)
    with pytest.raises(FailedPrecondition, match="not running"):
        await reopen_log.reopen_container_log(front, request, fakes.a_call())
    await fakes.start(front, container)
    await reopen_log.reopen_container_log(front, request, fakes.a_call())
    assert host.count("reopen_log") == 1
