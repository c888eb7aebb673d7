"""Pinned namespaces."""

import asyncio
import os
import subprocess
import threading
from pathlib import Path

import pytest

from kernel.errors import Internal
from kernel.host.aio import Deadline
from kernel.ids import new_id
from services.network.links import netns


def inside(pin: Path, *argv: str) -> str:
    return subprocess.run(
        ["nsenter", f"--net={pin}", *argv], check=True, capture_output=True, text=True, timeout=10
    ).stdout


async def test_a_namespace_is_made_and_removed(tmp_path: Path) -> None:
    pin, ours = tmp_path / new_id(), os.stat("/proc/thread-self/ns/net").st_ino
    assert not netns.is_pinned(pin)
    await netns.Spare().pin(pin, Deadline.after(20))
    try:
        assert netns.is_pinned(pin)
        assert netns.sandboxes(tmp_path) == (pin.name,)
        assert pin.stat().st_ino != ours == os.stat("/proc/thread-self/ns/net").st_ino
        assert "LOOPBACK,UP" in inside(pin, "ip", "link", "show", "lo")
        assert inside(pin, "cat", "/proc/sys/net/ipv6/conf/default/accept_ra").strip() == "0"
    finally:
        await netns.remove(pin)
    assert not pin.exists()
    assert str(pin) not in Path("/proc/self/mountinfo").read_text()
    assert "netns" not in {thread.name for thread in threading.enumerate()}


async def test_removing_what_is_gone_or_half_made_succeeds(tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    await netns.remove(pin)
    pin.touch()
    assert not netns.is_pinned(pin)
    await netns.remove(pin)
    assert not pin.exists()


async def test_a_namespace_that_cannot_be_made_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(Internal, match="cannot be made"):
        await netns.Spare().pin(tmp_path / "gone" / "pin", Deadline.after(20))
    with pytest.raises(Internal, match="cannot be made"):
        await netns.Spare().pin(tmp_path / ("x" * 300), Deadline.after(20))
    assert list(tmp_path.iterdir()) == []


async def test_a_spare_namespace_is_used_once_and_leaves_nothing(tmp_path: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    others = namespaces_held()
    spare, first, second = netns.Spare(), tmp_path / new_id(), tmp_path / new_id()
    await spare.refill()
    made_ahead = namespaces_held() - others
    await spare.refill()
    try:
        await spare.pin(first, Deadline.after(20))
        await spare.pin(second, Deadline.after(20))
        assert made_ahead == {first.stat().st_ino}
        assert "LOOPBACK,UP" in inside(first, "ip", "link", "show", "lo")
        assert first.stat().st_ino != second.stat().st_ino
    finally:
        await netns.remove(first)
        await netns.remove(second)
    await spare.refill()
    spare.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def namespaces_held() -> set[int]:
    """Inodes of the network namespaces that this process has open."""
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return {os.stat(path).st_ino for path in paths if os.path.exists(path) and os.readlink(path).startswith("net:")}


def test_a_namespace_that_is_made_while_the_worker_ends_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    made, over, descriptors = netns._make, threading.Event(), []

    def slowly() -> int:
        over.wait()
        descriptors.append(made())
        return descriptors[0]

    monkeypatch.setattr(netns, "_make", slowly)
    monkeypatch.setattr(netns, "_REFILL_PAUSE", 0)

    async def worker() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(netns.Spare().refill(), 0.3)

    asyncio.run(worker())
    late = [one for one in threading.enumerate() if one.name == "netns"]
    over.set()
    for one in late:
        one.join(10)  # an exception in it would fail the test
    assert len(late) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptors[0])
