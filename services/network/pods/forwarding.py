"""Host ports in force: the daemon's nftables table, one transaction of `nft` for each change.

The table is there only while a pod has host ports. Two things that rules cannot do are set beside them: the
interface that leads to the pod takes packets from 127.0.0.1 (route_localnet), and the pod's port of a bridge sends
back to where a frame came from. Flows of UDP that a port's former meaning holds are ended.

What is in force follows the records: after a death of the worker the whole table is made anew from them. A child
that a killed worker left in the middle of a transaction is waited for first (`running.py`).
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
_PATIENCE = 2.0
_LOOK = 5.0


class Forwarding:
    """The table of one daemon."""

    def __init__(self, root: str, mark: Path) -> None:
        self._root = root
        self._table = hostport.table_of(root)
        self._mark = mark
        self._pods: dict[SandboxId, tuple[Forward, ...]] = {}
        self._up = False
        self._turn = asyncio.Lock()
        self._lent: set[str] = set()
        """Interfaces that take packets from 127.0.0.1 because of us."""

    async def restore(self, pods: Mapping[SandboxId, tuple[Forward, ...]], lent: Iterable[str]) -> None:
        """Make the table what the records say, after another life of this worker; and `lent` interfaces take packets
        from 127.0.0.1 as long as there is a pod with host ports."""
        async with self._turn:
            self._pods = {sandbox: forwards for sandbox, forwards in pods.items() if forwards}
            self._lent.update(lent)
            await plugin_lock.settle(self._mark, _PATIENCE)
            there = await asyncio.to_thread(self._has_table)
            if there or self._pods or self._lent:
                await self._anew(Deadline.after(_SECONDS))
            for interface in self._lent:
                await asyncio.to_thread(_switch, interface, "1")

    async def keep(self) -> None:
        """Make the table anew where somebody has flushed all rules: asked every few seconds, for as long as this runs.
        A pod that comes or goes meanwhile finds it out by itself."""
        while True:
            await asyncio.sleep(_LOOK)  # a pause, not a wait: nothing tells
            async with self._turn:
                if self._up and not await asyncio.to_thread(self._has_table):
                    _LOG.warning("somebody has taken away the table of host ports, which is made anew")
                    try:
                        await self._anew(Deadline.after(_SECONDS))
                    except CrispError as error:
                        _LOG.error("host ports are not forwarded: %s", error)

    async def add(self, sandbox: SandboxId, forwards: tuple[Forward, ...], through: str, deadline: Deadline) -> None:
        """Lead ports to a pod; the interface `through`, if there is one, takes packets from 127.0.0.1 then."""
        async with self._turn:
            before = self._pods
            self._pods = {**before, sandbox: forwards}
            try:
                if self._up and not before.get(sandbox):
                    await self._change(hostport.added(self._table, forwards), deadline)
                else:
                    await self._anew(deadline)
            except CrispError:
                self._pods, self._up = before, False
                raise
            if through and through not in self._lent:  # after the guard, which came with the table
                self._lent.add(through)
                await asyncio.to_thread(_switch, through, "1")
            await asyncio.to_thread(_forget_flows, forwards)

    async def remove(self, sandbox: SandboxId, deadline: Deadline) -> None:
        """Lead none to it any more; none led already is success."""
        if sandbox not in self._pods:
            return
        async with self._turn:
            forwards = self._pods.pop(sandbox, ())
            try:
                if self._up and self._pods:
                    await self._change(hostport.removed(self._table, forwards), deadline)
                else:
                    await self._anew(deadline)
            except CrispError:
                self._pods[sandbox], self._up = forwards, False
                raise
            await asyncio.to_thread(_forget_flows, forwards)

    def led(self, sandbox: SandboxId) -> bool:
        """Whether a pod's ports are in force."""
        return sandbox in self._pods

    async def through(self, forwards: tuple[Forward, ...]) -> str:
        """The interface that has to be told by us to take packets from 127.0.0.1 to a pod; empty where there is none,
        or where somebody else has told it."""
        address = next((each.address for each in forwards if each.family == 4), "")
        return await asyncio.to_thread(self._through, address) if address else ""

    async def _change(self, transaction: str, deadline: Deadline) -> None:
        """Run it; where it does not fit what is in the kernel (somebody flushed the rules), make all anew."""
        try:
            await self._nft(transaction, deadline)
        except Internal as error:
            _LOG.warning("the table of host ports is not as it was left and is made anew: %s", error)
            await self._anew(deadline)

    async def _anew(self, deadline: Deadline) -> None:
        every = [forward for forwards in self._pods.values() for forward in forwards]
        if every:
            await self._nft(hostport.whole(self._table, self._root, every), deadline)
        else:
            await asyncio.to_thread(self._take_back)  # before the guard goes with the table
            await self._nft(hostport.nothing(self._table), deadline)
        self._up = bool(every)

    async def _nft(self, transaction: str, deadline: Deadline) -> None:
        with plugin_lock.mark(self._mark) as mark:
            done = await process.run(
                ["nft", "-f", "-"], input=transaction.encode(), deadline=deadline.earlier(_SECONDS), pass_fds=(mark,)
            )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[:500]
            raise Internal(f"host ports: nft {process.describe(done.returncode)}: {said or 'it said nothing'}")

    def _has_table(self) -> bool:
        try:
            return nfnetlink.has_table(self._table)
        except OSError as error:
            _LOG.warning("whether there is a table of host ports is not known: %s", error.strerror)
            return True

    def _through(self, address: str) -> str:
        try:
            interface = rtnetlink.way_to(address)
            if not interface or interface in self._lent:
                return interface
            told = _setting(interface).read_text().strip()
        except OSError as error:
            _LOG.warning("host ports are not reached from 127.0.0.1: %s: %s", error.filename, error.strerror)
            return ""
        return interface if told == "0" else ""

    def _take_back(self) -> None:
        for interface in self._lent:
            _switch(interface, "0")
        self._lent.clear()


def turn_back(interfaces: Iterable[str]) -> None:
    """Let a pod reach itself by a host port: its port of a bridge, if it has one, sends back."""
    for interface in interfaces:
        try:
            rtnetlink.turn_back(interface)
        except OSError as error:
            _LOG.debug("interface %s: hairpin mode cannot be set: %s", interface, error.strerror)


def _setting(interface: str) -> Path:
    return Path("/proc/sys/net/ipv4/conf") / interface / "route_localnet"


def _switch(interface: str, value: str) -> None:
    try:
        _setting(interface).write_text(value)
    except FileNotFoundError:
        _LOG.debug("interface %s has gone", interface)
    except OSError as error:
        _LOG.warning("interface %s: route_localnet cannot be set to %s: %s", interface, value, error.strerror)


def _forget_flows(forwards: tuple[Forward, ...]) -> None:
    for port in sorted({forward.host_port for forward in forwards if forward.protocol == "udp"}):
        try:
            nfnetlink.forget_udp(port)
        except OSError as error:
            _LOG.warning("flows of udp port %d may go on to where it led before: %s", port, error.strerror)
