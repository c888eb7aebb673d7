"""GC: once in a worker's life, before its first ADD, plugins are passed the valid attachments and free everything else.

Only networks of CNI 1.1 and newer have GC (CNI specification, section 2). No ADD of the network runs meanwhile, because
the address that it leases would not be on the list yet. If GC fails, that is logged and pods join all the same; the
next worker tries again.
"""

from __future__ import annotations

import asyncio
import logging

from kernel.errors import CrispError
from kernel.host.aio import Deadline, KeyedLock
from services.network.documents.conflist import Network
from services.network.plugins import plugin_lock
from services.network.plugins.cni import Chain
from services.network.records.attachments import Attachments

_LOG = logging.getLogger(__name__)
_PATIENCE = 1.0
"""Seconds that a GC of an earlier worker has to end by itself."""


class Garbage:
    """Runs GC once for each network."""

    def __init__(self, chain: Chain, attachments: Attachments, timeout: float) -> None:
        self._chain = chain
        self._attachments = attachments
        self._timeout = timeout
        self._locks: KeyedLock[str] = KeyedLock()
        self._collected: set[str] = set()

    async def collect_once(self, network: Network, deadline: Deadline) -> None:
        """Run the network's GC unless this worker has already; return when it is done."""
        if network.name in self._collected or not network.reports_status or network.disable_gc:
            return
        what = f"garbage of network {network.name} is being collected"
        async with deadline.limit(what), self._locks.hold(network.name):
            if network.name not in self._collected:
                await self._collect(network)
                self._collected.add(network.name)

    async def _collect(self, network: Network) -> None:
        lock = self._attachments.lock_path("garbage")
        deadline = Deadline.after(self._timeout * len(network.plugins))
        try:
            await plugin_lock.wait_or_kill(lock, _PATIENCE)
            valid = await asyncio.to_thread(self._attachments.sandboxes)
            await self._chain.collect(network, valid, lock, deadline)
        except CrispError as error:
            _LOG.warning("network %s: its garbage is not collected: %s", network.name, error)
