"""GC: plugins of networks of CNI 1.1 and newer are told once, before the first ADD of this process's life, which
attachments are valid, and take away what they hold for others.

No ADD of the network runs meanwhile: what it leases is not on the list yet. GC that fails is told and keeps nobody
from joining; the next start tries again.
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


class Garbage:
    """Which networks have been told."""

    def __init__(self, chain: Chain, attachments: Attachments, timeout: float) -> None:
        self._chain = chain
        self._attachments = attachments
        self._timeout = timeout
        self._locks: KeyedLock[str] = KeyedLock()
        self._done: set[str] = set()

    async def collected(self, network: Network, deadline: Deadline) -> None:
        """Back once the network's plugins have been told."""
        if network.name in self._done or not network.reports_status or network.disable_gc:
            return
        what = f"garbage of network {network.name} is being collected"
        async with deadline.limit(what), self._locks.hold(network.name):
            if network.name not in self._done:
                await self._collect(network)
                self._done.add(network.name)

    async def _collect(self, network: Network) -> None:
        mark = self._attachments.mark("garbage")
        deadline = Deadline.after(self._timeout * len(network.plugins))
        try:
            await plugin_lock.settle(mark, _PATIENCE)
            valid = await asyncio.to_thread(self._attachments.sandboxes)
            await self._chain.collect(network, valid, mark, deadline)
        except CrispError as error:
            _LOG.warning("garbage of network %s is not collected: %s", network.name, error)
