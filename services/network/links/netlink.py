"""Netlink: one request to the kernel and its answers, and the attributes in both.

Numbers and names are those of linux/netlink.h. The kernel answers at once, so a call blocks no longer than a system
call does. A request concerns the network namespace of its socket; `request` opens one in the calling thread's. Failures
are OSErrors.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

ROUTE, NETFILTER = 0, 12
ACK, DUMP, CREATE = 4, 0x300, 0x600
"""Request flags; CREATE includes NLM_F_EXCL, so that nothing is replaced."""
NESTED = 0x8000
_REQUEST = 1
_ERROR, _DONE = 2, 3
_TYPE_MASK = 0x3FFF
_SECONDS = 5.0


def attribute(kind: int, payload: bytes) -> bytes:
    """Return an attribute as the kernel reads it."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes in a payload by their type; one that is cut off is dropped."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if not 4 <= length <= len(data):
            break
        found[kind & _TYPE_MASK] = data[4:length]
        data = data[length + 3 & ~3 :]
    return found


def request(protocol: int, kind: int, flags: int, body: bytes) -> list[bytes]:
    """Send one request and return the bodies of its answers."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as kernel:
        return request_on(kernel, kind, flags, body)


def request_on(kernel: socket.socket, kind: int, flags: int, body: bytes) -> list[bytes]:
    """Do the same as `request`, but on a socket that was opened elsewhere."""
    kernel.settimeout(_SECONDS)
    kernel.send(struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST, 1, 0) + body)
    found: list[bytes] = []
    while True:
        for answer, payload in messages(kernel.recv(1 << 20)):
            if answer == _ERROR:
                code = -struct.unpack_from("=i", payload)[0]
                if code:
                    raise OSError(code, os.strerror(code), "netlink")
                return found
            if answer == _DONE:
                return found
            found.append(payload)
        if not flags & (ACK | DUMP):
            return found


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the body of each message in a datagram."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if not 16 <= length <= len(data):
            return
        yield kind, data[16:length]
        data = data[length + 3 & ~3 :]
