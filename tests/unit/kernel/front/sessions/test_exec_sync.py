"""ExecSync: what is refused before anything runs."""

from __future__ import annotations

import pytest

from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.front.context import Front
from kernel.front.sessions import exec_sync
from tests.harness.fakes import pod_workers as fakes


async def test_exec_is_checked_before_it_is_run(front: Front, pod: str) -> None:
    container = await fakes.create(front, pod)

    async def refused(*cmd: str, timeout: int = 0) -> str:
        request = cri.ExecSyncRequest(container_id=container, cmd=cmd, timeout=timeout)
        with pytest.raises((InvalidInput, FailedPrecondition)) as caught:
            await exec_sync.exec_sync(front, request, fakes.a_call("ExecSync"))
        return caught.value.message

    assert "cmd" in await refused()
    assert "timeout" in await refused("true", timeout=-1)
    assert "not running" in await refused("true")
