"""Pods joining and leaving the network: the steps, each with its undoing.

    join    ports claimed → record → namespace → ADD → record with the result → addresses claimed → host ports
    leave   plugins of an earlier life ended → record says so → host ports, claims → DEL → namespace → record gone

One call at a time for a sandbox is the caller's part. After an error of `join` nothing is left, or a record, by
which `leave` is repeated until DEL succeeds.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from msgspec.structs import replace

from kernel.config.sections import Config
from kernel.contracts.network import AttachRequest
from kernel.errors import Cancelled, Corrupt, CrispError, Internal
from kernel.host.aio import Deadline, Tasks
from kernel.ids import SandboxId
from services.network.documents import capability, hostport, result
from services.network.documents.conflist import Network
from services.network.links import netns, rtnetlink
from services.network.plugins import plugin_lock
from services.network.plugins.cni import INTERFACE, Chain
from services.network.plugins.conf_dir import ConfDir
from services.network.plugins.garbage import Garbage
from services.network.pods import forwarding
from services.network.pods.forwarding import Forwarding
from services.network.records.attachments import Attachment, Attachments
from services.network.records.claims import Claims

_LOG = logging.getLogger(__name__)
_ORPHAN_PATIENCE = 5.0
"""Seconds that plugins of a killed worker have to end by themselves: ending one amid a lease would leak it."""


class Caller:
    """Whether somebody still waits for an ADD."""

    left = False


class Pods:
    """The pods of this node's network."""

    def __init__(self, config: Config, chain: Chain, conf_dir: ConfDir, attachments: Attachments, tasks: Tasks) -> None:
        self._section, self._paths = config.network, config.paths
        self._chain = chain
        self._conf_dir = conf_dir
        self._attachments = attachments
        self._tasks = tasks
        self._spare = netns.Spare()
        self._claims = Claims()
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._forwarding = Forwarding(config.root, attachments.mark("hostports"))
        self._garbage = Garbage(chain, attachments, config.network.timeout)
        self._restored = self._tasks.start(self._restore(), "host ports of before")
        self._tasks.start(self._forwarding.keep(), "host ports in force")

    def close(self) -> None:
        """Let go of what only this process holds."""
        self._spare.close()

    async def join(self, request: AttachRequest, caller: Caller, deadline: Deadline) -> tuple[str, ...]:
        """Make the namespace, run ADD and forward host ports; the pod's addresses. Joined already is success."""
        sandbox = request.sandbox
        if caller.left:
            raise Cancelled(f"attach of {sandbox}: the caller went away")
        earlier = self.load(sandbox)
        if earlier and earlier.result is not None and not earlier.undoing and netns.pinned(self._paths.netns(sandbox)):
            await self._forward(earlier, deadline)
            return result.addresses(earlier.result, self._section.primary_family)
        if earlier or self._traces(sandbox):
            await self.leave(sandbox, deadline)
        attachment = self._wanted(request)
        self._claims.claim_ports(sandbox, attachment.pod, hostport.check(request.port_mappings))
        try:
            await self._garbage.collected(attachment.network, deadline)
            self._attachments.save(attachment)
        except CrispError:
            self._claims.release(sandbox)
            raise
        try:
            return await self._add(attachment, caller, deadline, owned=request.user_namespace)
        except CrispError:
            await self._leave_failed(attachment)
            raise
        finally:
            self._tasks.start(self._spare.refill(), "spare namespace")

    async def leave(self, sandbox: SandboxId, deadline: Deadline) -> None:
        """DEL, if there was an ADD, then the namespace; where DEL fails all stays for the next try."""
        await self._leave(sandbox, self.load(sandbox), deadline)

    def _traces(self, sandbox: SandboxId) -> bool:
        """Whether there is something of an earlier call that has no record."""
        return self._paths.netns(sandbox).exists() or self._attachments.mark(sandbox).exists()

    def load(self, sandbox: SandboxId) -> Attachment | None:
        """The sandbox's attachment. A damaged one becomes the present network's: DEL frees by the sandbox's id."""
        try:
            return self._attachments.load(sandbox)
        except Corrupt as error:
            _LOG.warning("%s", error)
        network = self._conf_dir.known()
        if network is None:
            return None
        return Attachment(sandbox=sandbox, interface=INTERFACE, network=network, arguments="", runtime_config={})

    def problem(self, attachment: Attachment) -> str:
        """What is not as the record says; empty where all is."""
        if attachment.undoing:
            return "it is being taken off the network, and that failed"
        if attachment.result is None:
            return "it is being attached, or that was cut off"
        if attachment.host_ports and not self._forwarding.led(attachment.sandbox):
            return "its host ports are not forwarded"
        return ""

    async def collect(self) -> None:
        """GC of the network that is there at the start."""
        network = self._conf_dir.usable()
        if network is not None:
            await self._garbage.collected(network, Deadline.after(self._section.timeout * len(network.plugins)))

    def _wanted(self, request: AttachRequest) -> Attachment:
        network = self._conf_dir.network()
        values = capability.values(request)
        host_ports = hostport.check(request.port_mappings) if self._by_us(network) else ()
        if self._by_us(network):
            values.pop("portMappings", None)
        elif "portMappings" in values and not network.declares("portMappings"):
            _LOG.warning(
                "host ports are not forwarded: no plugin of network %s declares the capability portMappings,"
                " and network.host_ports is cni sandbox=%s",
                network.name,
                request.sandbox,
            )
        return Attachment(
            sandbox=request.sandbox,
            interface=INTERFACE,
            network=network,
            arguments=capability.arguments(request),
            runtime_config=values,
            pod=f"{request.namespace}/{request.name}",
            boot=self._boot,
            host_ports=host_ports,
        )

    def _by_us(self, network: Network) -> bool:
        setting = self._section.host_ports
        return setting == "crisp" or (setting == "auto" and not network.declares("portMappings"))

    async def _add(self, attachment: Attachment, caller: Caller, deadline: Deadline, *, owned: bool) -> tuple[str, ...]:
        sandbox = attachment.sandbox
        pin = self._paths.netns(sandbox)
        if owned:
            await netns.adopt(self._paths.pod_namespace(sandbox, "net"), pin)
        else:
            await self._spare.pin(pin)
        added = await self._chain.add(attachment, pin, self._attachments.mark(sandbox), deadline)
        ips = result.addresses(added, self._section.primary_family)
        self._claims.claim_addresses(sandbox, attachment.pod, attachment.network.name, ips, _is_hosts)
        attachment = replace(attachment, result=added)
        if attachment.host_ports:
            await asyncio.wait({self._restored})
            forwards = _forwards(attachment)
            attachment = replace(attachment, loopback_through=await self._forwarding.through(forwards))
            await asyncio.to_thread(forwarding.turn_back, result.outside(added))
        self._attachments.save(attachment)
        await self._forward(attachment, deadline)
        if caller.left:
            raise Cancelled(f"attach of {sandbox}: the caller went away")
        return ips

    async def _forward(self, attachment: Attachment, deadline: Deadline) -> None:
        """Host ports in force, if it has any."""
        if attachment.host_ports:
            await asyncio.wait({self._restored})
            if not self._forwarding.led(attachment.sandbox):
                forwards, through = _forwards(attachment), attachment.loopback_through
                await self._forwarding.add(attachment.sandbox, forwards, through, deadline)

    async def _leave(self, sandbox: SandboxId, attachment: Attachment | None, deadline: Deadline) -> None:
        pin, mark = self._paths.netns(sandbox), self._attachments.mark(sandbox)
        await plugin_lock.settle(mark, _ORPHAN_PATIENCE)
        if attachment:
            if attachment.result is not None and not attachment.undoing:
                self._attachments.save(replace(attachment, undoing=True))
            if attachment.host_ports:
                await asyncio.wait({self._restored})
                await self._forwarding.remove(sandbox, deadline)
            self._claims.release(sandbox)
            await self._delete(attachment, deadline)
        await netns.remove(pin)
        self._attachments.remove(sandbox)

    async def _delete(self, attachment: Attachment, deadline: Deadline) -> None:
        """DEL; without a namespace where that is gone.

        Where it is gone and the host was not booted since, one with the interface and the addresses that plugins gave
        stands in for it: the bridge plugin reads from it which masquerade rules to take away.
        """
        pin, mark = self._paths.netns(attachment.sandbox), self._attachments.mark(attachment.sandbox)
        if netns.pinned(pin):
            await self._chain.delete(attachment, str(pin), mark, deadline)
            return
        if attachment.result is not None and attachment.boot == self._boot:
            held = result.interface_addresses(attachment.result)
            try:
                await netns.stand_in(pin, lambda: rtnetlink.add_interface(attachment.interface, held))
                await self._chain.delete(attachment, str(pin), mark, deadline)
            except CrispError as error:
                _LOG.info("DEL with a namespace that stands in for the lost one: %s", error)
                await netns.remove(pin)
            else:
                return
        await self._chain.delete(attachment, "", mark, deadline)

    async def _leave_failed(self, attachment: Attachment) -> None:
        """Leave nothing of an ADD that failed. Where DEL fails too, its record stays, for `leave` to repeat it."""
        sandbox = attachment.sandbox
        deadline = Deadline.after(self._section.timeout * len(attachment.network.plugins))
        try:
            await self._leave(sandbox, self.load(sandbox) or attachment, deadline)
        except CrispError as error:
            _LOG.warning("a failed ADD could not be undone sandbox=%s: %s", sandbox, error)
            await netns.remove(self._paths.netns(sandbox))

    async def _restore(self) -> None:
        """Claims and host ports of pods that were there before this process."""
        forwards, lent = {}, []
        for sandbox in self._attachments.sandboxes():
            attachment = self.load(sandbox)
            if attachment is None:
                continue
            lent.append(attachment.loopback_through)
            if attachment.undoing:
                continue
            try:
                self._claims.claim_ports(sandbox, attachment.pod, attachment.every_port())
                if attachment.result is not None:
                    ips, name = result.addresses(attachment.result), attachment.network.name
                    self._claims.claim_addresses(sandbox, attachment.pod, name, ips, lambda _: False)
                    forwards[sandbox] = _forwards(attachment)
            except CrispError as error:
                _LOG.warning("pod sandbox %s is not as it was recorded: %s", sandbox, error)
        try:
            await self._forwarding.restore(forwards, filter(None, lent))
        except CrispError as error:
            _LOG.error("host ports of running pods are not forwarded until the next change: %s", error)


def _forwards(attachment: Attachment) -> tuple[hostport.Forward, ...]:
    if not attachment.host_ports or attachment.result is None:
        return ()
    return hostport.forwards(attachment.host_ports, result.interface_addresses(attachment.result))


def _is_hosts(address: str) -> bool:
    try:
        return rtnetlink.is_own(address)
    except OSError as error:
        raise Internal(f"whether {address} is the host's cannot be told: {error.strerror}") from error
