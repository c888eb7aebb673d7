"""The network worker's bus methods, each a few steps that other modules take.

Runs in the worker's process on its event loop. Calls for one sandbox run one at a time, those for different
sandboxes side by side. If a caller leaves, its call goes on; if it was an ADD, it is undone once it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from kernel.bus.worker import Call
from kernel.config.sections import Config
from kernel.contracts.definition import Nothing
from kernel.contracts.network import (
    Attached,
    AttachRequest,
    ConfigureRequest,
    Described,
    DescribeRequest,
    DialRequest,
    Inventory,
    PodNetwork,
    Readiness,
    SandboxRequest,
)
from kernel.errors import CrispError, Internal
from kernel.host.aio import Deadline, KeyedLock, Tasks, result_of
from kernel.ids import SandboxId
from kernel.ids import sandbox_id as check_sandbox_id
from services.network.documents import plugin_arguments, result
from services.network.links import netns
from services.network.plugins.cni import Chain
from services.network.plugins.conf_dir import ConfDir
from services.network.plugins.network_status import Status
from services.network.pods import dial, pod_network
from services.network.pods.pod_table import Caller, Pods
from services.network.records import lease
from services.network.records.attachments import Attachments


class NetworkService:
    """Serves `kernel.contracts.network`: one coroutine for each method."""

    def __init__(self, config: Config) -> None:
        section, self._paths = config.network, config.paths
        self._section = section
        self._chain = Chain(section.plugin_dirs, section.timeout)
        self._conf_dir = ConfDir(
            Path(section.config_dir), section.default_network, section.plugin_dirs, self._chain.missing
        )
        self._attachments = Attachments(self._paths.network_state)
        self._locks: KeyedLock[SandboxId] = KeyedLock()
        self._tasks = Tasks()
        self._pods = Pods(config, self._chain, self._conf_dir, self._attachments, self._tasks)
        self._tasks.spawn(self._pods.collect_garbage(), "garbage of earlier pods")
        status = Status(
            self._chain, self._conf_dir, self._attachments.lock_path("status"), section.status_interval, section.timeout
        )
        self._tasks.spawn(status.run(), "status of the network")

    async def close(self) -> None:
        """End all that runs. An ADD that is cut off here is undone by the next DETACH or ATTACH."""
        self._conf_dir.close()
        await self._tasks.close()
        self._pods.close()

    async def attach(self, request: AttachRequest, call: Call) -> Attached:
        """Make the namespace and run ADD."""
        check_sandbox_id(request.sandbox_id)
        plugin_arguments.check(request)
        caller = Caller()
        attach = self._tasks.run(self._attach(request, caller, call.deadline), f"attach {request.sandbox_id}")
        try:
            return await result_of(attach)
        except asyncio.CancelledError:
            caller.has_left = True
            raise

    async def detach(self, request: SandboxRequest, call: Call) -> Nothing:
        """Run DEL and remove the namespace."""
        check_sandbox_id(request.sandbox_id)
        await result_of(
            self._tasks.run(self._detach(request.sandbox_id, call.deadline), f"detach {request.sandbox_id}")
        )
        return Nothing()

    async def check_ready(self, request: Nothing, call: Call) -> Readiness:
        """Return whether a pod could join the network now."""
        return self._conf_dir.readiness()

    async def watch_ready(self, request: Nothing, call: Call) -> Nothing:
        """Report the readiness now, then each change."""
        async for readiness in self._conf_dir.changes():
            await call.progress(readiness)
        return Nothing()

    async def inventory(self, request: Nothing, call: Call) -> Inventory:
        """Return what crisp's pods hold on the host."""
        return await asyncio.to_thread(self._inventory)

    async def configure(self, request: ConfigureRequest, call: Call) -> Nothing:
        """Write the network's configuration, made of the template."""
        await asyncio.to_thread(self._conf_dir.render, self._section.config_template, request.pod_cidrs)
        self._conf_dir.readiness()
        return Nothing()

    async def describe(self, request: DescribeRequest, call: Call) -> Described:
        """Return every pod's network as it is."""
        sandboxes = await asyncio.to_thread(self._attachments.sandboxes)
        found = [await self._describe(each, call.deadline, check=request.check) for each in sandboxes]
        return Described(pods=tuple(each for each in found if each is not None))

    async def dial(self, request: DialRequest, call: Call) -> Nothing:
        """Connect to a pod's port for a port-forward."""
        await dial.dial(self._paths, request, call.deadline)
        return Nothing()

    async def _attach(self, request: AttachRequest, caller: Caller, deadline: Deadline) -> Attached:
        async with self._locks.hold(request.sandbox_id):
            return Attached(ips=await self._pods.join(request, caller, deadline))

    async def _detach(self, sandbox_id: SandboxId, deadline: Deadline) -> None:
        async with self._locks.hold(sandbox_id):
            await self._pods.leave(sandbox_id, deadline)

    async def _describe(self, sandbox_id: SandboxId, deadline: Deadline, *, check: bool) -> PodNetwork | None:
        async with self._locks.hold(sandbox_id) if check else nullcontext():
            attachment = self._pods.load(sandbox_id)
            if attachment is None:
                return None
            problem, pin = self._pods.problem(attachment), self._paths.netns(sandbox_id)
            family = self._section.primary_family
            ips = () if attachment.result is None else result.addresses(attachment.result, family)
            if check and not problem and netns.is_pinned(pin):
                try:
                    await self._chain.check(attachment, pin, self._attachments.lock_path(sandbox_id), deadline)
                except CrispError as error:
                    problem = error.message
            return await pod_network.describe(attachment, pin, ips, problem, deadline)

    def _inventory(self) -> Inventory:
        attachments = self._attachments.sandboxes()
        namespaces = netns.sandboxes(self._paths.netns_dir)
        return Inventory(
            namespaces=namespaces,
            attachments=attachments,
            leases=lease.held_by({*attachments, *namespaces}, self._lease_dirs(attachments)),
        )

    def _lease_dirs(self, sandboxes: Iterable[SandboxId]) -> set[Path]:
        """Return the folders of host-local's leases for networks in use: its default, and those in configurations."""
        networks = {
            attachment.network.name: attachment.network for each in sandboxes if (attachment := self._pods.load(each))
        }
        known = self._conf_dir.known()
        used = [*networks.values(), *([known] if known else [])]
        return {lease.DEFAULT_DIR, *(Path(folder) for network in used for folder in network.lease_dirs())}


async def create(config: Config) -> NetworkService:
    """Make the folders in which the service keeps its state, and return the service."""
    paths = config.paths
    try:
        paths.network_state.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths.netns_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise Internal(f"folder {error.filename} cannot be made: {error.strerror}") from error
    return NetworkService(config)
