"""Takes a pod off the network, and undoes an ADD that failed or was cut off.

    plugins of an earlier worker end → `undoing` in the record → host ports, claims → DEL → namespace → record removed

If DEL fails, namespace and record stay, and the next try does the same again. One call at a time for a sandbox is the
caller's duty.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from kernel.config.sections import Config
from kernel.errors import Corrupt, CrispError
from kernel.host import proc
from kernel.host.aio import Deadline
from kernel.ids import SandboxId, short
from services.network.documents import result
from services.network.links import netns, rtnetlink
from services.network.plugins import plugin_lock
from services.network.plugins.cni import Chain
from services.network.pods.pod_ports import PodPorts
from services.network.records.attachments import Attachment, Attachments
from services.network.records.claims import Claims

_LOG = logging.getLogger(__name__)
_ORPHAN_PATIENCE = 5.0
"""Seconds that plugins of a killed worker have to end by themselves: killing one in the middle of taking a lease would
leak the lease."""


class Leaving:
    """Takes pods off the network."""

    def __init__(self, config: Config, chain: Chain, attachments: Attachments, claims: Claims, ports: PodPorts) -> None:
        self._timeout = config.network.timeout
        self._paths = config.paths
        self._chain = chain
        self._attachments = attachments
        self._claims = claims
        self._ports = ports

    async def leave(self, sandbox_id: SandboxId, attachment: Attachment | None, deadline: Deadline) -> None:
        """Run DEL, if there was an ADD, and remove the namespace. If DEL fails, everything stays for the next try."""
        await plugin_lock.wait_or_kill(self._attachments.lock_path(sandbox_id), _ORPHAN_PATIENCE)
        if attachment:
            if attachment.result is not None and not attachment.undoing:
                self._attachments.save(replace(attachment, undoing=True))
            await self._ports.stop(attachment, deadline)
            self._claims.release(sandbox_id)
            await self._delete(attachment, deadline)
        await netns.remove(self._paths.netns(sandbox_id))
        self._attachments.remove(sandbox_id)

    async def undo_add(self, attachment: Attachment) -> None:
        """Remove all that a failed ADD left. If DEL fails too, only the record stays, so that `leave` repeats DEL."""
        sandbox_id = attachment.sandbox_id
        deadline = Deadline.after(self._timeout * len(attachment.network.plugins))
        try:
            try:
                latest = self._attachments.load(sandbox_id)
            except Corrupt:
                latest = None
            await self.leave(sandbox_id, latest or attachment, deadline)
        except CrispError as error:
            _LOG.warning("sandbox %s: its failed ADD could not be undone: %s", short(sandbox_id), error)
            await netns.remove(self._paths.netns(sandbox_id))

    async def _delete(self, attachment: Attachment, deadline: Deadline) -> None:
        """Run DEL, without a namespace if that is gone.

        If it is gone although the host has not booted since, another one with the interface and the addresses that
        plugins gave stands in for it: the bridge plugin reads from it which masquerade rules to remove.
        """
        sandbox_id = attachment.sandbox_id
        pin, lock = self._paths.netns(sandbox_id), self._attachments.lock_path(sandbox_id)
        if netns.is_pinned(pin):
            await self._chain.delete(attachment, str(pin), lock, deadline)
            return
        if attachment.result is not None and attachment.boot == proc.boot_id():
            addresses = result.interface_addresses(attachment.result)
            try:
                await netns.stand_in(pin, lambda: rtnetlink.add_interface(attachment.interface, addresses), deadline)
                await self._chain.delete(attachment, str(pin), lock, deadline)
            except CrispError as error:
                _LOG.info("sandbox %s: DEL failed in a namespace that stands in: %s", short(sandbox_id), error)
                await netns.remove(pin)
            else:
                return
        await self._chain.delete(attachment, "", lock, deadline)
