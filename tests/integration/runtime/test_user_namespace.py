"""User namespaces that are made, pinned and owned."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kernel.contracts.oci import IdMap, IdRange
from kernel.errors import DeadlineExceeded
from kernel.host import thread
from kernel.host.aio import Deadline
from services.runtime.namespaces import namespace_pins, user_namespace

NS_GET_USERNS = 0xB701
IDS = IdMap(
    uids=IdRange(container_id=0, host_id=100000, length=10), gids=IdRange(container_id=0, host_id=200000, length=10)
)


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[dict[str, Path]]:
    found = {kind: tmp_path / "ns" / kind for kind in ("user", "net", "ipc", "uts")}
    yield found
    for path in found.values():
        namespace_pins.unmount(path)


def inodes(pins: dict[str, Path]) -> dict[str, int]:
    return {kind: path.stat().st_ino for kind, path in pins.items()}


def owner(pin: Path) -> int:
    """The user namespace that owns another namespace."""
    fd = os.open(pin, os.O_RDONLY)
    try:
        user = fcntl.ioctl(fd, NS_GET_USERNS)
    finally:
        os.close(fd)
    try:
        return os.fstat(user).st_ino
    finally:
        os.close(user)


async def test_all_are_pinned_once_and_no_process_stays(pins: dict[str, Path]) -> None:
    before = {child.pid for child in psutil.Process().children()}
    await user_namespace.pin(pins, IDS, Deadline.after(20))
    first = inodes(pins)
    assert {child.pid for child in psutil.Process().children()} <= before
    assert {owner(path) for kind, path in pins.items() if kind != "user"} == {first["user"]}
    await user_namespace.pin(pins, IDS, Deadline.after(20))
    assert inodes(pins) == first
    namespace_pins.unmount(pins["net"])  # a worker that died on the way: all are made anew, as they belong together
    await user_namespace.pin(pins, IDS, Deadline.after(20))
    assert {owner(path) for kind, path in pins.items() if kind != "user"} == {pins["user"].stat().st_ino}


async def test_the_host_name_is_set_in_it(pins: dict[str, Path]) -> None:
    await user_namespace.pin(pins, IDS, Deadline.after(20))

    def named() -> str:
        namespace_pins.set_hostname(pins["uts"], "mapped")
        return os.uname().nodename

    assert await thread.run(named, Deadline.after(20), "name") == "mapped"
    assert os.uname().nodename != "mapped"


async def test_a_deadline_ends_the_child() -> None:
    with pytest.raises(DeadlineExceeded):
        async with user_namespace.child((), IDS, Deadline.after(0)):
            pytest.fail("it was made after its deadline")
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in living if "unshare" in child.cmdline()]


async def test_support_is_looked_at_on_the_folder_itself(tmp_path: Path) -> None:
    can = user_namespace.kernel_version(os.uname().release) >= user_namespace.LEAST_KERNEL
    assert await user_namespace.supported(tmp_path, Deadline.after(20)) is can
    assert await user_namespace.supported(Path("/proc"), Deadline.after(20)) is False
