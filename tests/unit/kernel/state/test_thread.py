"""The store behind its thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kernel.contracts.records import Exit
from kernel.contracts.supervisor import Commit
from kernel.state.store import Store
from kernel.state.thread import StateThread
from tests.unit.kernel.state.test_intents import BOX, POD


async def test_calls_run_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        state = StateThread(Store.open(tmp_path / "state.db"), thread)
        exit_ = Exit(container_id=BOX.id, exit_code=1, finished_at=2, oom_killed=False)
        _, news, again, found = await asyncio.gather(
            state.commit(Commit(put_sandboxes=(POD,), put_containers=(BOX,))),
            state.record_exit(exit_),
            state.record_exit(exit_),
            state.load(),
        )
        assert (news, again) == (True, False)
        assert (found.sandboxes, found.containers, found.exits) == ((POD,), (BOX,), (exit_,))
        assert await state.copy()
        assert not await state.copy()
        await state.close()


async def test_a_caller_that_leaves_does_not_cut_its_transaction(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        state = StateThread(Store.open(tmp_path / "state.db"), thread)
        caller = asyncio.get_running_loop().create_task(state.commit(Commit(put_sandboxes=(POD,))))
        await asyncio.sleep(0)
        caller.cancel()
        assert (await state.load()).sandboxes == (POD,)
        await state.close()
