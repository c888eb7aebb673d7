"""Whether the plugins themselves say that a pod could join now: CNI's STATUS, of networks of version 1.1 and newer.

Asked at the start, after each change of the configuration, and again and again in between. What they say shows in
the readiness; it does not keep an ADD that was asked for from being tried.
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


class Status:
    """Asks for as long as it runs."""

    def __init__(self, chain: Chain, conf_dir: ConfDir, mark: Path, interval: float, timeout: float) -> None:
        self._chain = chain
        self._conf_dir = conf_dir
        self._mark = mark
        self._interval = interval
        self._timeout = timeout

    async def run(self) -> None:
        """The loop; a network that knows no STATUS costs nothing."""
        while True:
            network = self._conf_dir.usable()
            if network is not None and network.reports_status:
                self._conf_dir.tell(network, await self._ask(network))
            try:
                async with asyncio.timeout(self._interval if network and network.reports_status else None):
                    await self._conf_dir.network_changes(network)
            except TimeoutError:
                _LOG.debug("the plugins of network %s are asked again", network.name if network else "")

    async def _ask(self, network: Network) -> str:
        """What is wrong; empty where nothing is."""
        try:
            await plugin_lock.settle(self._mark, _PATIENCE)
            await self._chain.status(network, self._mark, Deadline.after(self._timeout))
        except CrispError as error:
            return error.message
        return ""
