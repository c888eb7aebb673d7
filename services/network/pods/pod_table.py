"""The pods of this node's network: the steps by which one joins, and the record of each.

    ports claimed → record → namespace → ADD → addresses claimed → record with the result → host ports

One call at a time for a sandbox is the caller's duty. After an error of `join` nothing is left, or only a record, from
which `leave` repeats DEL until it succeeds.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from kernel.config.sections import Config
from kernel.contracts.network import AttachRequest
from kernel.errors import Cancelled, Corrupt, CrispError, Internal
from kernel.host import proc
from kernel.host.aio import Deadline, Tasks
from kernel.ids import SandboxId, short
from services.network.documents import hostport, plugin_arguments, result
from services.network.documents.hostport import Forward
from services.network.links import netns, rtnetlink
from services.network.plugins.cni import INTERFACE, Chain
from services.network.plugins.conf_dir import ConfDir
from services.network.plugins.garbage import Garbage
from services.network.pods.leaving import Leaving
from services.network.pods.pod_ports import CAPABILITY, PodPorts, forwards_of
from services.network.records.attachments import Attachment, Attachments
from services.network.records.claims import Claims

_LOG = logging.getLogger(__name__)


class Caller:
    """The caller of an ADD."""

    has_left = False
    """Whether it no longer waits, so that the ADD must be undone."""


class Pods:
    """The pods of this node's network."""

    def __init__(self, config: Config, chain: Chain, conf_dir: ConfDir, attachments: Attachments, tasks: Tasks) -> None:
        """Claim the ports and addresses of pods that an earlier worker left, and begin to forward their host ports."""
        self._section, self._paths = config.network, config.paths
        self._chain = chain
        self._conf_dir = conf_dir
        self._attachments = attachments
        self._tasks = tasks
        self._boot = proc.boot_id()
        self._spare = netns.Spare()
        self._claims = Claims()
        self._ports = PodPorts(config, attachments.lock_path("hostports"))
        self._leaving = Leaving(config, chain, attachments, self._claims, self._ports)
        self._garbage = Garbage(chain, attachments, config.network.timeout)
        tasks.spawn(self._ports.restore(*self._restore_claims()), "host ports of earlier pods")
        tasks.spawn(self._ports.keep_in_force(), "host ports in force")

    def close(self) -> None:
        """Release the namespace that was made ahead."""
        self._spare.close()

    async def join(self, request: AttachRequest, caller: Caller, deadline: Deadline) -> tuple[str, ...]:
        """Make the namespace, run ADD and forward host ports; return the pod's addresses.

        A pod that has joined already keeps its namespace and addresses.
        """
        sandbox_id = request.sandbox_id
        if caller.has_left:
            raise Cancelled(f"attach of {sandbox_id}: the caller went away")
        earlier = self.load(sandbox_id)
        if earlier and earlier.result is not None and not earlier.undoing and self._has_namespace(sandbox_id):
            await self._ports.forward(earlier, deadline)
            return result.addresses(earlier.result, self._section.primary_family)
        if earlier or self._has_traces(sandbox_id):
            await self.leave(sandbox_id, deadline)
        attachment = self._new_attachment(request)
        self._claims.claim_ports(sandbox_id, attachment.pod, hostport.check(request.port_mappings))
        try:
            await self._garbage.collect_once(attachment.network, deadline)
            self._attachments.save(attachment)
        except CrispError:
            self._claims.release(sandbox_id)
            raise
        try:
            return await self._add(attachment, caller, deadline, own_user_namespace=request.user_namespace)
        except CrispError:
            await self._leaving.undo_add(attachment)
            raise
        finally:
            self._tasks.spawn(self._spare.refill(), "spare namespace")

    async def leave(self, sandbox_id: SandboxId, deadline: Deadline) -> None:
        """Run DEL, if there was an ADD, and remove the namespace. If DEL fails, everything stays for the next try."""
        await self._leaving.leave(sandbox_id, self.load(sandbox_id), deadline)

    def load(self, sandbox_id: SandboxId) -> Attachment | None:
        """Return the sandbox's attachment, None if it has none.

        A damaged one is replaced by one to the present network: plugins free what they hold by the sandbox's id.
        """
        try:
            return self._attachments.load(sandbox_id)
        except Corrupt as error:
            _LOG.warning("%s", error)
        network = self._conf_dir.known()
        if network is None:
            return None
        return Attachment(sandbox_id=sandbox_id, interface=INTERFACE, network=network, arguments="", runtime_config={})

    def problem(self, attachment: Attachment) -> str:
        """Return, for people, how the pod differs from its record; empty if it does not."""
        if attachment.undoing:
            return "it is being taken off the network, and that failed"
        if attachment.result is None:
            return "it is being attached, or that was cut off"
        if self._ports.lacks(attachment):
            return "its host ports are not forwarded"
        return ""

    async def collect_garbage(self) -> None:
        """Run GC of the network that is configured when the worker starts."""
        network = self._conf_dir.usable()
        if network is not None:
            await self._garbage.collect_once(network, Deadline.after(self._section.timeout * len(network.plugins)))

    def _has_namespace(self, sandbox_id: SandboxId) -> bool:
        return netns.is_pinned(self._paths.netns(sandbox_id))

    def _has_traces(self, sandbox_id: SandboxId) -> bool:
        """Return whether an earlier call has left something that has no record."""
        return self._paths.netns(sandbox_id).exists() or self._attachments.lock_path(sandbox_id).exists()

    def _new_attachment(self, request: AttachRequest) -> Attachment:
        network = self._conf_dir.network()
        values = plugin_arguments.values(request)
        ours = self._ports.are_ours(network)
        if ours:
            values.pop(CAPABILITY, None)
        elif CAPABILITY in values and not network.declares(CAPABILITY):
            _LOG.warning(
                "sandbox %s: its host ports are not forwarded: no plugin of network %s declares the capability %s,"
                " and network.host_ports is cni",
                short(request.sandbox_id),
                network.name,
                CAPABILITY,
            )
        return Attachment(
            sandbox_id=request.sandbox_id,
            interface=INTERFACE,
            network=network,
            arguments=plugin_arguments.arguments(request),
            runtime_config=values,
            pod=f"{request.namespace}/{request.name}",
            boot=self._boot,
            host_ports=hostport.check(request.port_mappings) if ours else (),
        )

    async def _add(
        self, attachment: Attachment, caller: Caller, deadline: Deadline, *, own_user_namespace: bool
    ) -> tuple[str, ...]:
        sandbox_id = attachment.sandbox_id
        pin = self._paths.netns(sandbox_id)
        if own_user_namespace:
            await netns.adopt(self._paths.pod_namespace(sandbox_id, "net"), pin, deadline)
        else:
            await self._spare.pin(pin, deadline)
        added = await self._chain.add(attachment, pin, self._attachments.lock_path(sandbox_id), deadline)
        ips = result.addresses(added, self._section.primary_family)
        self._claims.claim_addresses(sandbox_id, attachment.pod, attachment.network.name, ips, _is_host_address)
        attachment = await self._ports.prepare(replace(attachment, result=added))
        self._attachments.save(attachment)
        await self._ports.forward(attachment, deadline)
        if caller.has_left:
            raise Cancelled(f"attach of {sandbox_id}: the caller went away")
        return ips

    def _restore_claims(self) -> tuple[dict[SandboxId, tuple[Forward, ...]], list[str]]:
        """Claim the ports and addresses of pods that an earlier worker left.

        Return their forwards, and the interfaces on which crisp has set route_localnet.
        """
        forwards: dict[SandboxId, tuple[Forward, ...]] = {}
        borrowed: list[str] = []
        for sandbox_id in self._attachments.sandboxes():
            attachment = self.load(sandbox_id)
            if attachment is None:
                continue
            if attachment.loopback_interface:
                borrowed.append(attachment.loopback_interface)
            if attachment.undoing:
                continue
            try:
                self._claims.claim_ports(sandbox_id, attachment.pod, attachment.every_port())
                if attachment.result is not None:
                    ips, name = result.addresses(attachment.result), attachment.network.name
                    self._claims.claim_addresses(sandbox_id, attachment.pod, name, ips, lambda _: False)
                    forwards[sandbox_id] = forwards_of(attachment)
            except CrispError as error:
                _LOG.warning("sandbox %s: it is not as it was recorded: %s", short(sandbox_id), error)
        return forwards, borrowed


def _is_host_address(address: str) -> bool:
    try:
        return rtnetlink.is_local(address)
    except OSError as error:
        raise Internal(f"whether {address} is the host's own is unknown: {error.strerror}") from error
