"""Messages between supervisor and spawner, and the end of one of them."""

from __future__ import annotations

import os

import pytest

from kernel.supervisor.processes import spawner_link


@pytest.mark.parametrize("message", [spawner_link.Spawn("image"), spawner_link.Measure((1, 2)), spawner_link.Bye(78)])
def test_to_the_spawner(message: spawner_link.ToSpawner) -> None:
    ours, theirs = spawner_link.pair()
    with ours, theirs:
        spawner_link.send(ours, message)
        assert spawner_link.receive_from_supervisor(theirs) == message


@pytest.mark.parametrize(
    "message",
    [
        spawner_link.Died("image", 7, -9),
        spawner_link.Failed("image", "no"),
        spawner_link.Measured({7: 4096}),
        spawner_link.Stop(),
    ],
)
def test_to_the_supervisor(message: spawner_link.ToSupervisor) -> None:
    ours, theirs = spawner_link.pair()
    with ours, theirs:
        spawner_link.send(theirs, message)
        assert spawner_link.receive_from_spawner(ours) == (message, [])


def test_a_descriptor_travels_along() -> None:
    ours, theirs = spawner_link.pair()
    with ours, theirs:
        pidfd = os.pidfd_open(os.getpid())
        spawner_link.send(theirs, spawner_link.Started("image", os.getpid()), pidfd)
        os.close(pidfd)
        message, (received,) = spawner_link.receive_from_spawner(ours)
        assert message == spawner_link.Started("image", os.getpid())
        assert os.readlink(f"/proc/self/fd/{received}") == "anon_inode:[pidfd]"
        os.close(received)


def test_the_end_of_the_other_side() -> None:
    ours, theirs = spawner_link.pair()
    with ours:
        theirs.close()
        assert spawner_link.receive_from_spawner(ours) == (None, [])


def test_the_last_message_of_a_side_that_closed_with_unread_ones_is_not_lost() -> None:
    spawner, supervisor = spawner_link.pair()
    with spawner, supervisor:
        spawner_link.send(spawner, spawner_link.Died("front", 7, 0))
        spawner_link.send(supervisor, spawner_link.Bye(0))
        supervisor.close()
        assert spawner_link.receive_from_supervisor(spawner) == spawner_link.Bye(0)
        assert spawner_link.receive_from_supervisor(spawner) is None
    spawner, supervisor = spawner_link.pair()
    with spawner, supervisor:
        spawner_link.send(supervisor, spawner_link.Spawn("image"))
        spawner_link.send(spawner, spawner_link.Died("front", 7, 0))
        spawner.close()
        assert spawner_link.receive_from_spawner(supervisor) == (spawner_link.Died("front", 7, 0), [])
        assert spawner_link.receive_from_spawner(supervisor) == (None, [])
