"""The network worker's bus methods, each a short spine.

Runs in the worker's process on its event loop. One call at a time for a sandbox; sandboxes side by side. What a
call has begun goes on when its caller leaves: an ADD that nobody waits for any more is undone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from kernel.bus.worker import Call
from kernel.config import Config
from kernel.contracts.contract import Nothing
from kernel.contracts.network import Attached, AttachRequest, DialRequest, Inventory, Readiness, SandboxRequest
from kernel.errors import Cancelled, Corrupt, CrispError, Internal
from kernel.host.aio import Deadline, KeyedLock, Tasks
from kernel.ids import SandboxId, sandbox_id
from services.network import capability, dial, lease, netns, result, running
from services.network.attachments import Attachment, Attachments
from services.network.cni import INTERFACE, Chain
from services.network.conf_dir import ConfDir

_LOG = logging.getLogger(__name__)
_ORPHAN_PATIENCE = 5.0
"""Seconds that plugins of a killed worker have to end by themselves: ending one amid a lease would leak it."""


class _Caller:
    """Whether somebody still waits for an ADD."""

    left = False


class NetworkService:
    """Serves `kernel.contracts.network`."""

    def __init__(self, config: Config) -> None:
        section, self._paths = config.network, config.paths
        self._timeout = section.timeout
        self._chain = Chain(section.plugin_dirs, section.timeout)
        self._conf_dir = ConfDir(
            Path(section.config_dir), section.default_network, section.plugin_dirs, self._chain.missing
        )
        self._attachments = Attachments(self._paths.network_state)
        self._locks: KeyedLock[SandboxId] = KeyedLock()
        self._tasks = Tasks()
        self._spare = netns.Spare()

    async def close(self) -> None:
        """End what runs; an ADD cut off here is undone by the next DETACH or ATTACH."""
        self._conf_dir.close()
        await self._tasks.close()
        self._spare.close()

    async def attach(self, request: AttachRequest, call: Call) -> Attached:
        """Make the namespace and run ADD."""
        sandbox_id(request.sandbox)
        arguments, values = capability.arguments(request), capability.values(request)
        caller = _Caller()
        work = self._tasks.start(
            self._attach(request, arguments, values, caller, call.deadline), f"attach {request.sandbox}"
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            caller.left = True
            raise

    async def detach(self, request: SandboxRequest, call: Call) -> Nothing:
        """Run DEL and remove the namespace."""
        sandbox_id(request.sandbox)
        work = self._tasks.start(self._detach(request.sandbox, call.deadline), f"detach {request.sandbox}")
        await asyncio.shield(work)
        return Nothing()

    async def check_ready(self, request: Nothing, call: Call) -> Readiness:
        """Whether a pod could join the network now."""
        return self._conf_dir.readiness()

    async def watch_ready(self, request: Nothing, call: Call) -> Nothing:
        """Tell the readiness now, then each change."""
        async for readiness in self._conf_dir.changes():
            await call.progress(readiness)
        return Nothing()

    async def inventory(self, request: Nothing, call: Call) -> Inventory:
        """What is on the host of ours."""
        return await asyncio.to_thread(self._inventory)

    async def dial(self, request: DialRequest, call: Call) -> Nothing:
        """Connect to a pod's port for a port-forward."""
        await dial.dial(self._paths, request, call.deadline)
        return Nothing()

    async def _attach(
        self, request: AttachRequest, arguments: str, values: dict[str, object], caller: _Caller, deadline: Deadline
    ) -> Attached:
        sandbox = request.sandbox
        async with self._locks.hold(sandbox):
            if caller.left:
                raise Cancelled(f"attach of {sandbox}: the caller went away")
            earlier = self._load(sandbox)
            if earlier and earlier.result is not None and netns.pinned(self._paths.netns(sandbox)):
                return Attached(ips=result.addresses(earlier.result))
            await self._undo(sandbox, earlier, deadline)
            attachment = Attachment(
                sandbox=sandbox,
                interface=INTERFACE,
                network=self._conf_dir.network(),
                arguments=arguments,
                runtime_config=values,
            )
            _warn_of_host_ports(attachment)
            self._attachments.save(attachment)
            try:
                return await self._add(attachment, caller, deadline, owned=request.user_namespace)
            except CrispError:
                await self._undo_failed(attachment)
                raise
            finally:
                self._tasks.start(self._spare.refill(), "spare namespace")

    async def _add(self, attachment: Attachment, caller: _Caller, deadline: Deadline, *, owned: bool) -> Attached:
        sandbox = attachment.sandbox
        pin = self._paths.netns(sandbox)
        if owned:
            await netns.adopt(self._paths.pod_namespace(sandbox, "net"), pin)
        else:
            await self._spare.pin(pin)
        added = await self._chain.add(attachment, pin, self._attachments.mark(sandbox), deadline)
        ips = result.addresses(added)
        self._attachments.save(msgspec.structs.replace(attachment, result=added))
        if caller.left:
            raise Cancelled(f"attach of {sandbox}: the caller went away")
        return Attached(ips=ips)

    async def _detach(self, sandbox: SandboxId, deadline: Deadline) -> None:
        async with self._locks.hold(sandbox):
            await self._undo(sandbox, self._load(sandbox), deadline)

    async def _undo(self, sandbox: SandboxId, attachment: Attachment | None, deadline: Deadline) -> None:
        """DEL, if there was an ADD, then the namespace; where DEL fails all stays for the next try."""
        pin, mark = self._paths.netns(sandbox), self._attachments.mark(sandbox)
        await running.settle(mark, _ORPHAN_PATIENCE)
        if attachment:
            await self._chain.delete(attachment, str(pin) if netns.pinned(pin) else "", mark, deadline)
        await netns.remove(pin)
        self._attachments.remove(sandbox)

    async def _undo_failed(self, attachment: Attachment) -> None:
        """Leave nothing of an ADD that failed. Where DEL fails too, its record stays, for DETACH to repeat it."""
        sandbox = attachment.sandbox
        try:
            await self._undo(sandbox, attachment, Deadline.after(self._timeout * len(attachment.network.plugins)))
        except CrispError as error:
            _LOG.warning("a failed ADD could not be undone sandbox=%s: %s", sandbox, error)
            await netns.remove(self._paths.netns(sandbox))

    def _load(self, sandbox: SandboxId) -> Attachment | None:
        """The sandbox's attachment. A damaged one becomes the present network's: DEL frees by the sandbox's id."""
        try:
            return self._attachments.load(sandbox)
        except Corrupt as error:
            _LOG.warning("%s", error)
        network = self._conf_dir.known()
        if network is None:
            return None
        return Attachment(sandbox=sandbox, interface=INTERFACE, network=network, arguments="", runtime_config={})

    def _inventory(self) -> Inventory:
        attachments = self._attachments.sandboxes()
        namespaces = netns.sandboxes(self._paths.netns_dir)
        return Inventory(
            namespaces=namespaces,
            attachments=attachments,
            leases=lease.held_by({*attachments, *namespaces}, self._lease_dirs(attachments)),
        )

    def _lease_dirs(self, sandboxes: Iterable[SandboxId]) -> set[Path]:
        """Where host-local keeps leases of the networks in use: its own default, and what configurations say."""
        networks = {
            attachment.network.name: attachment.network for each in sandboxes if (attachment := self._load(each))
        }
        known = self._conf_dir.known()
        used = [*networks.values(), *([known] if known else [])]
        return {lease.DEFAULT_DIR, *(Path(folder) for network in used for folder in network.lease_dirs())}


def _warn_of_host_ports(attachment: Attachment) -> None:
    """A network without a plugin for host ports is no error with the peers either, but a riddle without a word."""
    declared = {name for plugin in attachment.network.plugins for name in plugin.capabilities}
    if "portMappings" in attachment.runtime_config and "portMappings" not in declared:
        _LOG.warning(
            "host ports are not forwarded: no plugin of network %s declares the capability portMappings sandbox=%s",
            attachment.network.name,
            attachment.sandbox,
        )


async def create(config: Config) -> NetworkService:
    """The service, with the folders that it keeps its state in."""
    paths = config.paths
    try:
        paths.network_state.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths.netns_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise Internal(f"folder {error.filename} cannot be made: {error.strerror}") from error
    return NetworkService(config)
