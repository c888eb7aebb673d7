"""The supervisor's bus methods that need no process: the state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from kernel.bus.worker import Call, handlers
from kernel.contracts.definition import Nothing
from kernel.contracts.records import Exit
from kernel.contracts.supervisor import CONTRACT, Commit
from kernel.state.store import Store
from kernel.state.thread import StateThread
from kernel.supervisor.methods import Methods
from kernel.supervisor.supervise import Supervisor
from tests.unit.kernel.state.test_intents import BOX, POD

NOBODY = cast("Supervisor", None)
NO_CALL = cast("Call", None)


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[StateThread]:
    with ThreadPoolExecutor(1) as thread:
        mine = StateThread(Store.open(tmp_path / "state.db"), thread)
        yield mine
        await mine.close()


async def test_the_service_agrees_with_its_contract(state: StateThread) -> None:
    assert handlers(CONTRACT, Methods(NOBODY, state)).keys() == CONTRACT.methods.keys()


async def test_what_is_committed_is_loaded(state: StateThread) -> None:
    methods = Methods(NOBODY, state)
    await methods.commit(Commit(put_sandboxes=(POD,), put_containers=(BOX,)), NO_CALL)
    assert await state.record_exit(Exit(container_id=BOX.id, exit_code=1, finished_at=2, oom_killed=False))
    found = await methods.load(Nothing(), NO_CALL)
    assert (found.sandboxes, found.containers, found.exits[0].exit_code) == ((POD,), (BOX,), 1)
