"""Reads a pod's network from the kernel, for people (`crisp net`).

It is read through a socket that a throw-away thread opens in the pod's namespace; no other thread enters it.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from msgspec.structs import replace

from kernel.contracts.network import Interface, PodNetwork, Route
from kernel.host.aio import Deadline
from services.network.documents import hostport, result
from services.network.links import netlink, netns, rtnetlink
from services.network.records.attachments import Attachment


async def describe(
    attachment: Attachment, pin: Path, ips: tuple[str, ...], problem: str, deadline: Deadline
) -> PodNetwork:
    """Return the interfaces, addresses and routes in the namespace at `pin`, and the pod's host ports.

    `problem`: a problem that is known already; it precedes those found here.
    """
    about = PodNetwork(
        sandbox_id=attachment.sandbox_id,
        pod=attachment.pod,
        network=attachment.network.name,
        ips=ips,
        host_ports=tuple(f"{hostport.text(each)} -> {each.container_port}" for each in attachment.every_port()),
        problem=problem,
    )
    if not netns.is_pinned(pin):
        return replace(about, problem=problem or "its network namespace is gone")
    try:
        opened = await netns.open_socket(pin, socket.AF_NETLINK, deadline, socket.SOCK_RAW, netlink.ROUTE)
        interfaces, routes = await asyncio.to_thread(_read, opened)
    except OSError as error:
        return replace(about, problem=problem or f"its network namespace cannot be read: {error.strerror}")
    return replace(
        about, interfaces=interfaces, routes=routes, problem=problem or _missing_addresses(attachment, interfaces)
    )


def _read(opened: int) -> tuple[tuple[Interface, ...], tuple[Route, ...]]:
    with socket.socket(fileno=opened) as kernel:
        return rtnetlink.interfaces(kernel), rtnetlink.routes(kernel)


def _missing_addresses(attachment: Attachment, interfaces: tuple[Interface, ...]) -> str:
    """Return, for people, the addresses that plugins gave and the namespace lacks; empty if none is missing."""
    if attachment.result is None:
        return ""
    held = {address for interface in interfaces for address in interface.addresses}
    lost = [each for each in result.interface_addresses(attachment.result) if each not in held]
    return f"{', '.join(lost)} is not in its namespace" if lost else ""
