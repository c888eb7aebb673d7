"""Messages between supervisor and spawner, and the end of one of them."""

from __future__ import annotations

import os

import pytest

from kernel.supervisor import link


@pytest.mark.parametrize("message", [link.Spawn("image"), link.Measure((1, 2)), link.Bye(78)])
def test_to_the_spawner(message: link.ToSpawner) -> None:
    ours, theirs = link.pair()
    with ours, theirs:
        link.send(ours, message)
        assert link.receive_from_supervisor(theirs) == message


@pytest.mark.parametrize(
    "message",
    [link.Died("image", 7, -9), link.Failed("image", "no"), link.Measured({7: 4096}), link.Stop()],
)
def test_to_the_supervisor(message: link.ToSupervisor) -> None:
    ours, theirs = link.pair()
    with ours, theirs:
        link.send(theirs, message)
        assert link.receive_from_spawner(ours) == (message, [])


def test_a_descriptor_travels_along() -> None:
    ours, theirs = link.pair()
    with ours, theirs:
        pidfd = os.pidfd_open(os.getpid())
        link.send(theirs, link.Started("image", os.getpid()), pidfd)
        os.close(pidfd)
        message, (received,) = link.receive_from_spawner(ours)
        assert message == link.Started("image", os.getpid())
        assert os.readlink(f"/proc/self/fd/{received}") == "anon_inode:[pidfd]"
        os.close(received)


def test_the_end_of_the_other_side() -> None:
    ours, theirs = link.pair()
    with ours:
        theirs.close()
        assert link.receive_from_spawner(ours) == (None, [])
