"""Host ports in force: the daemon's nftables table, changed by one transaction of `nft` at a time.

The table exists only while a pod has host ports. Two settings that rules cannot replace are made beside it: the
interface that leads to the pod accepts packets from 127.0.0.1 (route_localnet), and the pod's port of a bridge sends
frames back through itself (hairpin mode). UDP flows that still follow the port's former rule are ended.

The attachments decide what is in force: when the worker starts again, the whole table is rebuilt from them. An `nft`
that a killed worker left in the middle of a transaction is waited for first (`plugin_lock`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from kernel.errors import CrispError, Internal
from kernel.host import process
from kernel.host.aio import Deadline
from kernel.ids import SandboxId
from services.network.documents import hostport
from services.network.documents.hostport import Forward
from services.network.links import nfnetlink, rtnetlink
from services.network.plugins import plugin_lock

_LOG = logging.getLogger(__name__)
_SECONDS = 20.0
"""The most that one transaction takes."""
_PATIENCE = 2.0
"""Seconds that an `nft` of an earlier worker has to end by itself."""
_LOOK = 5.0
"""Seconds between two looks for the table."""


class Forwarding:
    """The table of one daemon."""

    def __init__(self, root: str, lock: Path) -> None:
        """`root`: the daemon's root folder, from which the table's name follows. `lock`: held by each `nft`."""
        self._root = root
        self._table = hostport.table_of(root)
        self._lock = lock
        self._pods: dict[SandboxId, tuple[Forward, ...]] = {}
        self._is_up = False
        """Whether the table is as `_pods` has it."""
        self._turn = asyncio.Lock()
        self._borrowed: set[str] = set()
        """Interfaces on which we have set route_localnet."""

    async def restore(self, pods: Mapping[SandboxId, tuple[Forward, ...]], borrowed: Iterable[str]) -> None:
        """Rebuild the table from the records, after the start of this worker.

        `borrowed`: interfaces on which an earlier worker set route_localnet. It is set again, and reset with the last
        host port.
        """
        async with self._turn:
            self._pods = {sandbox_id: forwards for sandbox_id, forwards in pods.items() if forwards}
            self._borrowed.update(borrowed)
            await plugin_lock.wait_or_kill(self._lock, _PATIENCE)
            exists = await asyncio.to_thread(self._table_exists)
            if exists or self._pods or self._borrowed:
                await self._rebuild(Deadline.after(_SECONDS))
            for interface in self._borrowed:
                await asyncio.to_thread(_set_route_localnet, interface, "1")

    async def keep_in_force(self) -> None:
        """Rebuild the table if another program has flushed all rules; looks every few seconds until cancelled.

        A pod that joins or leaves sooner need not wait: its own transaction fails, and the table is rebuilt.
        """
        while True:
            await asyncio.sleep(_LOOK)  # a pause, not a wait: the kernel reports no flush
            async with self._turn:
                if self._is_up and not await asyncio.to_thread(self._table_exists):
                    _LOG.warning("another program has removed the table of host ports; it is rebuilt")
                    try:
                        await self._rebuild(Deadline.after(_SECONDS))
                    except CrispError as error:
                        _LOG.error("host ports are not forwarded: %s", error)

    async def add(
        self, sandbox_id: SandboxId, forwards: tuple[Forward, ...], loopback_interface: str, deadline: Deadline
    ) -> None:
        """Forward ports to a pod, and let `loopback_interface`, unless it is empty, accept packets from 127.0.0.1."""
        async with self._turn:
            before = self._pods
            self._pods = {**before, sandbox_id: forwards}
            try:
                if self._is_up and not before.get(sandbox_id):
                    await self._change(hostport.add(self._table, forwards), deadline)
                else:
                    await self._rebuild(deadline)
            except CrispError:
                self._pods, self._is_up = before, False
                raise
            if loopback_interface and loopback_interface not in self._borrowed:  # after the guard, part of the table
                self._borrowed.add(loopback_interface)
                await asyncio.to_thread(_set_route_localnet, loopback_interface, "1")
            await asyncio.to_thread(_end_udp_flows, forwards)

    async def remove(self, sandbox_id: SandboxId, deadline: Deadline) -> None:
        """Stop forwarding to this pod. Succeeds if nothing was forwarded."""
        if sandbox_id not in self._pods:
            return
        async with self._turn:
            forwards = self._pods.pop(sandbox_id, ())
            try:
                if self._is_up and self._pods:
                    await self._change(hostport.remove(self._table, forwards), deadline)
                else:
                    await self._rebuild(deadline)
            except CrispError:
                self._pods[sandbox_id], self._is_up = forwards, False
                raise
            await asyncio.to_thread(_end_udp_flows, forwards)

    def is_forwarded(self, sandbox_id: SandboxId) -> bool:
        """Return whether a pod's ports are forwarded."""
        return sandbox_id in self._pods

    async def loopback_interface(self, forwards: tuple[Forward, ...]) -> str:
        """Return the interface on which we must set route_localnet, so that the pod is reached from 127.0.0.1.

        Empty if there is none, or if another program has set it there.
        """
        address = next((each.address for each in forwards if each.family == 4), "")
        return await asyncio.to_thread(self._loopback_interface, address) if address else ""

    async def _change(self, transaction: str, deadline: Deadline) -> None:
        """Run a transaction; rebuild the table if it does not match the kernel's: another program flushed it."""
        try:
            await self._nft(transaction, deadline)
        except Internal as error:
            _LOG.warning("the table of host ports was changed by another program and is rebuilt: %s", error)
            await self._rebuild(deadline)

    async def _rebuild(self, deadline: Deadline) -> None:
        every = [forward for forwards in self._pods.values() for forward in forwards]
        if every:
            await self._nft(hostport.replace_table(self._table, self._root, every), deadline)
        else:
            await asyncio.to_thread(self._return_borrowed)  # before the guard goes with the table
            await self._nft(hostport.drop_table(self._table), deadline)
        self._is_up = bool(every)

    async def _nft(self, transaction: str, deadline: Deadline) -> None:
        with plugin_lock.hold(self._lock) as lock_fd:
            done = await process.run(
                ["nft", "-f", "-"], input=transaction.encode(), deadline=deadline.earlier(_SECONDS), pass_fds=(lock_fd,)
            )
        if done.returncode:
            output = done.stderr.decode(errors="replace").strip()[:500]
            raise Internal(f"host ports: nft {process.describe(done.returncode)}: {output or 'no output'}")

    def _table_exists(self) -> bool:
        try:
            return nfnetlink.has_table(self._table)
        except OSError as error:
            _LOG.warning("whether there is a table of host ports is unknown: %s", error.strerror)
            return True

    def _loopback_interface(self, address: str) -> str:
        try:
            interface = rtnetlink.interface_to(address)
            if not interface or interface in self._borrowed:
                return interface
            value = _route_localnet(interface).read_text().strip()
        except OSError as error:
            _LOG.warning("host ports are not reached from 127.0.0.1: %s: %s", error.filename, error.strerror)
            return ""
        return interface if value == "0" else ""

    def _return_borrowed(self) -> None:
        for interface in self._borrowed:
            _set_route_localnet(interface, "0")
        self._borrowed.clear()


def set_hairpin(interfaces: Iterable[str]) -> None:
    """Let a pod reach itself by a host port: each of its interfaces that is a bridge port sends frames back."""
    for interface in interfaces:
        try:
            rtnetlink.set_hairpin(interface)
        except OSError as error:
            _LOG.debug("interface %s: hairpin mode cannot be set: %s", interface, error.strerror)


def _route_localnet(interface: str) -> Path:
    return Path("/proc/sys/net/ipv4/conf") / interface / "route_localnet"


def _set_route_localnet(interface: str, value: str) -> None:
    try:
        _route_localnet(interface).write_text(value)
    except FileNotFoundError:
        _LOG.debug("interface %s: it is gone", interface)
    except OSError as error:
        _LOG.warning("interface %s: route_localnet cannot be set to %s: %s", interface, value, error.strerror)


def _end_udp_flows(forwards: tuple[Forward, ...]) -> None:
    for port in sorted({forward.host_port for forward in forwards if forward.protocol == "udp"}):
        try:
            nfnetlink.end_udp_flows(port)
        except OSError as error:
            _LOG.warning("udp port %d: its flows may still reach the pod that had it before: %s", port, error.strerror)
