"""STATUS: whether the plugins themselves report that a pod could join now, for networks of CNI 1.1 and newer.

It is run at the start, after each change of the configuration, and every `network.status_interval` seconds. The answer
shows in the network's readiness; it does not keep an ADD from being tried.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from kernel.errors import CrispError
from kernel.host.aio import Deadline
from services.network.documents.conflist import Network
from services.network.plugins import plugin_lock
from services.network.plugins.cni import Chain
from services.network.plugins.conf_dir import ConfDir

_LOG = logging.getLogger(__name__)
_PATIENCE = 0.5
"""Seconds that a STATUS of an earlier worker has to end by itself."""


class Status:
    """Runs STATUS for as long as the worker lives."""

    def __init__(self, chain: Chain, conf_dir: ConfDir, lock: Path, interval: float, timeout: float) -> None:
        self._chain = chain
        self._conf_dir = conf_dir
        self._lock = lock
        self._interval = interval
        self._timeout = timeout

    async def run(self) -> None:
        """Run STATUS again and again, until cancelled. A network without STATUS costs nothing."""
        while True:
            network = self._conf_dir.usable()
            if network is not None and network.reports_status:
                self._conf_dir.set_status(network, await self._status(network))
            try:
                async with asyncio.timeout(self._interval if network and network.reports_status else None):
                    await self._conf_dir.wait_for_other_network(network)
            except TimeoutError:
                _LOG.debug("network %s: STATUS is run again", network.name if network else "")

    async def _status(self, network: Network) -> str:
        """Return why the plugins are not ready; empty if they are."""
        try:
            await plugin_lock.wait_or_kill(self._lock, _PATIENCE)
            await self._chain.status(network, self._lock, Deadline.after(self._timeout))
        except CrispError as error:
            return error.message
        return ""
