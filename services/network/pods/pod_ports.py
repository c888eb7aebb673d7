"""Forwards the host ports of pods, as their attachments have them.

Runs on the worker's event loop. Nothing is changed before the table has been rebuilt from the attachments that an
earlier worker left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec.structs import replace

from kernel.config.sections import Config
from kernel.errors import CrispError
from kernel.host.aio import Deadline
from kernel.ids import SandboxId
from services.network.documents import hostport, result
from services.network.documents.conflist import Network
from services.network.documents.hostport import Forward
from services.network.pods import forwarding
from services.network.pods.forwarding import Forwarding
from services.network.records.attachments import Attachment

_LOG = logging.getLogger(__name__)
CAPABILITY = "portMappings"
"""The capability of plugins that forward host ports (CNI CONVENTIONS.md)."""


class PodPorts:
    """The host ports that crisp forwards, by pod."""

    def __init__(self, config: Config, lock: Path) -> None:
        """`lock`: held by each change of the table (`plugin_lock`)."""
        self._who = config.network.host_ports
        self._forwarding = Forwarding(config.root, lock)
        self._restored = asyncio.Event()

    def are_ours(self, network: Network) -> bool:
        """Return whether crisp forwards the ports of pods on this network. Otherwise a plugin does, or no program."""
        return self._who == "crisp" or (self._who == "auto" and not network.declares(CAPABILITY))

    async def restore(self, pods: Mapping[SandboxId, tuple[Forward, ...]], borrowed: Iterable[str]) -> None:
        """Put the ports of pods from before this worker in force; see `Forwarding.restore`. An error is logged."""
        try:
            await self._forwarding.restore(pods, borrowed)
        except CrispError as error:
            _LOG.error("host ports of running pods are not forwarded until the next change: %s", error)
        finally:
            self._restored.set()

    async def keep_in_force(self) -> None:
        """Rebuild the table whenever another program has flushed it, until cancelled."""
        await self._forwarding.keep_in_force()

    async def prepare(self, attachment: Attachment) -> Attachment:
        """Return the attachment with the interface that will accept packets from 127.0.0.1, and set hairpin mode.

        The attachment must be saved before `forward`, so that the next worker knows on which interface the setting was
        made.
        """
        if not attachment.host_ports:
            return attachment
        await self._restored.wait()
        interface = await self._forwarding.loopback_interface(forwards_of(attachment))
        await asyncio.to_thread(forwarding.set_hairpin, result.host_interfaces(attachment.result or {}))
        return replace(attachment, loopback_interface=interface)

    async def forward(self, attachment: Attachment, deadline: Deadline) -> None:
        """Forward the pod's ports, if it has any. Does nothing if they are forwarded."""
        if not attachment.host_ports:
            return
        await self._restored.wait()
        if not self._forwarding.is_forwarded(attachment.sandbox_id):
            await self._forwarding.add(
                attachment.sandbox_id, forwards_of(attachment), attachment.loopback_interface, deadline
            )

    async def stop(self, attachment: Attachment, deadline: Deadline) -> None:
        """Stop forwarding the pod's ports. Succeeds if none are forwarded."""
        if attachment.host_ports:
            await self._restored.wait()
            await self._forwarding.remove(attachment.sandbox_id, deadline)

    def lacks(self, attachment: Attachment) -> bool:
        """Return whether the pod has host ports that crisp should forward and does not."""
        return bool(attachment.host_ports) and not self._forwarding.is_forwarded(attachment.sandbox_id)


def forwards_of(attachment: Attachment) -> tuple[Forward, ...]:
    """Return the table's forwards for the host ports of a pod; none before its ADD is done.

    FailedPrecondition if the pod has no address of a family that a mapping is for.
    """
    if not attachment.host_ports or attachment.result is None:
        return ()
    return hostport.forwards(attachment.host_ports, result.interface_addresses(attachment.result))
