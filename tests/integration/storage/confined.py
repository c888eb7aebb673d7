"""Probes run as a child of an unpack would run: `python -I confined.py empty|folder|closed CAPABILITIES FILTER`.

After giving up what those children give up, tries what a hostile layer would want; the answers are JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys

from kernel.host import syscalls
from services.storage.confined import confine

_LIBC = ctypes.CDLL(None, use_errno=True)


def tried(call: object) -> str:
    try:
        result = call()  # type: ignore[operator]
    except OSError as error:
        return error.strerror or "failed"
    if isinstance(result, int) and result < 0:
        return os.strerror(ctypes.get_errno())
    return "done"


def main() -> None:
    confine.enter(empty=sys.argv[1] == "empty", read_only=sys.argv[1] == "closed")
    root = os.open("/", os.O_RDONLY)
    confine.drop(int(sys.argv[2]), bytes.fromhex(sys.argv[3]))
    answers = {
        "listed": os.listdir(root) if sys.argv[1] != "empty" else [],
        "write": tried(lambda: os.open("/new", os.O_WRONLY | os.O_CREAT)),
        "host": tried(lambda: os.open("/etc/passwd", os.O_RDONLY)),
        "above": tried(lambda: os.open("../../../../etc/passwd", os.O_RDONLY)),
        "proc": tried(lambda: os.open("/proc/self/status", os.O_RDONLY)),
        "socket": tried(lambda: socket.socket(socket.AF_INET)),
        "fork": tried(os.fork),
        "exec": tried(lambda: os.execv("/new", ["/new"])),
        "kill": tried(lambda: os.kill(os.getppid(), 0)),
        "unshare": tried(lambda: syscalls.unshare(syscalls.CLONE_NEWNS)),
        "mount": tried(lambda: syscalls.mount("none", "/", "tmpfs")),
        "chroot": tried(lambda: os.chroot("/")),
        "ptrace": tried(lambda: _LIBC.ptrace(16, os.getpid(), 0, 0)),
        "raise": tried(lambda: syscalls.capset(1 << 21, 1 << 21, 0)),
    }
    os.write(1, json.dumps(answers).encode())


if __name__ == "__main__":
    main()
