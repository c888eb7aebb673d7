"""Netlink: one request to the kernel and its answers, and attributes in and out of them.

Numbers and names are those of linux/netlink.h. Answers come from the kernel at once, so a call blocks no longer than
a system call does. It is about the network namespace of the socket, which is the calling thread's where none is
given. Failures are OSErrors.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

ROUTE, NETFILTER = 0, 12
ACK, DUMP, CREATE = 4, 0x300, 0x600
"""CREATE: and nothing is replaced."""
NESTED = 0x8000
_REQUEST = 1
_ERROR, _DONE = 2, 3
_TYPE_MASK = 0x3FFF
_SECONDS = 5.0


def attribute(kind: int, payload: bytes) -> bytes:
    """An attribute as the kernel reads it."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in a payload; what is cut off is dropped."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if not 4 <= length <= len(data):
            break
        found[kind & _TYPE_MASK] = data[4:length]
        data = data[length + 3 & ~3 :]
    return found


def ask(protocol: int, kind: int, flags: int, body: bytes) -> list[bytes]:
    """The bodies of the answers to one request."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as kernel:
        return ask_on(kernel, kind, flags, body)


def ask_on(kernel: socket.socket, kind: int, flags: int, body: bytes) -> list[bytes]:
    """As `ask`, on a socket that was opened elsewhere."""
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
    """Type and body of each message of a datagram."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if not 16 <= length <= len(data):
            return
        yield kind, data[16:length]
        data = data[length + 3 & ~3 :]
