"""Becomes one worker by the real code, then tries what that worker must not be able to do. Run as a program by
test_probes.py: `probe.py CONFIG ROW FOREIGN_PID`; prints, as JSON, an errno's name or `ok` by attempt.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from kernel.config import reading as configuration
from kernel.host import syscalls
from kernel.supervisor.privileges import enforce, workers

LIBC = ctypes.CDLL(None, use_errno=True)
AF_PACKET, AF_VSOCK = 17, 40


def call(number: int, *arguments: object) -> None:
    """A system call by its x86-64 number."""
    if LIBC.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def attempts(config: configuration.Config, name: str, foreign: int) -> dict[str, Callable[[], object]]:
    paths = config.paths

    def connect(path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.connect(str(path))

    def connect_abstract() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.connect(f"\0crisp-probe-{foreign}")

    def tcp(act: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as end:
            end.settimeout(5)
            getattr(end, act)(("127.0.0.1", int(os.environ["PROBE_PORT"]) if act == "connect" else 0))

    def memfd_exec() -> None:
        fd = os.memfd_create("probe")
        os.write(fd, Path("/usr/bin/true").read_bytes())
        os.execve(fd, ["true"], {})

    def become_root() -> None:
        os.setuid(0)
        Path("/etc/shadow").read_bytes()

    def cpu_clone() -> None:
        child = LIBC.syscall(ctypes.c_long(56), ctypes.c_ulong(0x10000000 | 17), 0, 0, 0, 0)  # CLONE_NEWUSER | SIGCHLD
        if child == 0:
            os._exit(0)
        if child < 0:
            raise OSError(ctypes.get_errno(), "clone")

    places = {
        "image": paths.blobs,
        "front": paths.front_socket.parent,
        "storage": paths.layers,
        "stream": paths.stream_dir,
    }
    own = places[name]
    return {
        "write in its own folder": lambda: (own / "probe").write_bytes(b"x"),
        "look up a name": lambda: socket.getaddrinfo("localhost", 80),
        "read the resolver's file": lambda: Path("/etc/hosts").read_bytes(),
        "connect to tcp": lambda: tcp("connect"),
        "bind a tcp port": lambda: tcp("bind"),
        "make a udp socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
        "make a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
        "make a packet socket": lambda: socket.socket(AF_PACKET, socket.SOCK_RAW, 0).close(),
        "make a vsock": lambda: socket.socket(AF_VSOCK, socket.SOCK_STREAM, 0).close(),
        "read /etc/shadow": lambda: Path("/etc/shadow").read_bytes(),
        "read the state": lambda: paths.state_db.read_bytes(),
        "read a layer": lambda: os.listdir(paths.layers),
        "read a pod's secrets": lambda: Path(os.environ["PROBE_SECRET"]).read_bytes(),
        "read a process's environment": lambda: Path(f"/proc/{foreign}/environ").read_bytes(),
        "write in /tmp": lambda: Path("/tmp/crisp-probe-must-not-exist").write_bytes(b"x"),
        "write in /etc": lambda: Path("/etc/crisp-probe-must-not-exist").write_bytes(b"x"),
        "write an archive into incoming": lambda: (paths.incoming / "probe").write_bytes(b"x"),
        "call the storage worker": lambda: connect(paths.bus_dir("storage") / "probe"),
        "call the supervisor": lambda: connect(paths.bus_dir("supervisor") / "probe"),
        "reach an abstract socket": connect_abstract,
        "signal process 1": lambda: os.kill(1, 0),
        "signal a process": lambda: os.kill(foreign, signal.SIGCONT),
        "signal by pidfd": lambda: signal.pidfd_send_signal(os.pidfd_open(foreign), signal.SIGCONT),
        "take a descriptor": lambda: call(438, os.pidfd_open(foreign), 0, 0),
        "trace a process": lambda: call(101, 16, foreign, 0, 0),
        "read a process's memory": lambda: call(310, foreign, None, 0, None, 0, 0),
        "mount": lambda: syscalls.mount("tmpfs", "/mnt", "tmpfs"),
        "make a file system": lambda: os.close(syscalls.fsopen("tmpfs")),
        "change root": lambda: os.chroot("/"),
        "make a user namespace": lambda: syscalls.unshare(0x10000000),
        "clone a user namespace": cpu_clone,
        "make a mount namespace": lambda: syscalls.unshare(syscalls.CLONE_NEWNS),
        "enter a namespace": lambda: syscalls.setns(os.open("/proc/self/ns/net", os.O_RDONLY), 0),
        "load a bpf program": lambda: call(321, 0, None, 0),
        "set up io_uring": lambda: call(425, 1, ctypes.create_string_buffer(120)),
        "use a key ring": lambda: call(250, 0, -3, 0, 0, 0),
        "watch page faults": lambda: call(323, 1),
        "watch performance": lambda: call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0),
        "load a module": lambda: call(175, None, 0, b""),
        "become root": become_root,
        "raise a capability": lambda: syscalls.capset(1 << 21, 1 << 21, 0),
        "set the clock": lambda: call(164, None, None),
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "run a program from memory": memfd_exec,
    }


def outcome(attempt: Callable[[], object]) -> str:
    """`ok`, or why not. In a child: an attempt that succeeds may replace the process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            attempt()
            said = "ok"
        except OSError as error:
            said = errno.errorcode.get(error.errno or 0, str(error))
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(child, 0)
    return said or "ok"  # another program ran


def main() -> None:
    config = configuration.load(Path(sys.argv[1]))
    row, foreign = workers.row(sys.argv[2]), int(sys.argv[3])
    importlib.import_module(row.entry.partition(":")[0])
    importlib.import_module("encodings.idna")
    found = attempts(config, row.name, foreign)
    enforce.apply(row, config)
    print(json.dumps({name: outcome(attempt) for name, attempt in found.items()}))


if __name__ == "__main__":
    main()
