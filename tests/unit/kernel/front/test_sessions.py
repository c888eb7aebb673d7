"""ExecSync: what is refused before anything is run."""

from __future__ import annotations

import pytest

from kernel.errors import FailedPrecondition, InvalidInput
from kernel.front import sessions
from kernel.front.context import Front
from kernel.front.generated import cri_pb2 as cri
from tests.unit.kernel.front import pod_workers as fakes


async def test_exec_is_checked_before_it_is_run(front: Front, pod: str) -> None:
    container = await fakes.create(front, pod)

    async def refused(*cmd: str, timeout: int = 0) -> str:
        request = cri.ExecSyncRequest(container_id=container, cmd=cmd, timeout=timeout)
        with pytest.raises((InvalidInput, FailedPrecondition)) as caught:
            await sessions.exec_sync(front, request, fakes.a_call("ExecSync"))
        return caught.value.message

    assert "cmd" in await refused()
    assert "timeout" in await refused("true", timeout=-1)
    assert "not running" in await refused("true")
