"""The store on the only thread that may use it, so that the event loop is not blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from kernel.contracts.records import Exit
from kernel.contracts.supervisor import Commit, Snapshot
from kernel.state.store import Store

_T = TypeVar("_T")


class StateThread:
    """The store's methods as coroutines. Each runs after those that were called before it."""

    def __init__(self, store: Store, thread: Executor) -> None:
        """`thread`: an executor of one thread."""
        self._store = store
        self._thread = thread

    async def load(self) -> Snapshot:
        """Return all records."""
        return await self._run(self._store.load)

    async def commit(self, commit: Commit) -> None:
        """Apply one transaction."""
        await self._run(lambda: self._store.commit(commit))

    async def record_exit(self, exit_: Exit) -> bool:
        """Record the end of a container. Return whether it was new."""
        return await self._run(lambda: self._store.record_exit(exit_))

    async def copy(self) -> bool:
        """Copy the state beside its file. Return whether it had changed."""
        return await self._run(self._store.copy)

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._store.close)

    async def _run(self, work: Callable[[], _T]) -> _T:
        # A caller that is cancelled does not interrupt a transaction: work that is queued on the thread is done.
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
