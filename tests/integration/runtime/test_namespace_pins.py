"""Pins of namespaces, made and taken away."""

from __future__ import annotations

import os
from pathlib import Path

from kernel.host import thread
from kernel.host.aio import Deadline
from services.runtime.namespaces import namespace_pins


async def test_pins_are_made_once_and_go(base: Path) -> None:
    ipc, uts, shm = base / "ns" / "ipc", base / "ns" / "uts", base / "shm"
    assert not namespace_pins.pinned(ipc)
    inodes = set()
    for _ in range(2):
        await thread.run(lambda: namespace_pins.pin(ipc, uts, "pinned-host"), Deadline.after(5), "pin")
        inodes.add((ipc.stat().st_ino, uts.stat().st_ino))
        namespace_pins.mount_shm(shm)
    assert len(inodes) == 1
    assert namespace_pins.pinned(ipc)
    assert ipc.stat().st_ino != os.stat("/proc/self/ns/ipc").st_ino
    assert os.uname().nodename != "pinned-host"
    for path in (ipc, uts, shm, shm):
        namespace_pins.unmount(path)
    assert not namespace_pins.pinned(ipc)
    assert str(base) not in Path("/proc/self/mountinfo").read_text()
