"""What waits for readers stops a client before it is much."""

from __future__ import annotations

from kernel.stream.wires.carrier import MOST_WAITING, Backlog
from kernel.stream.wires.channel import MOST_BACKLOG


class Paper:
    def __init__(self) -> None:
        self.holders: set[object] = set()

    def hold(self, holder: object) -> None:
        self.holders.add(holder)

    def release(self, holder: object) -> None:
        self.holders.discard(holder)


def test_one_channel_with_much() -> None:
    client = Paper()
    backlog = Backlog(client)  # type: ignore[arg-type]
    backlog.set("a", MOST_BACKLOG)
    assert not client.holders
    backlog.set("a", MOST_BACKLOG + 1)
    assert client.holders == {"a"}
    backlog.set("a", 0)
    assert not client.holders


def test_many_channels_with_little_each() -> None:
    client = Paper()
    backlog = Backlog(client)  # type: ignore[arg-type]
    many = MOST_WAITING // MOST_BACKLOG + 1
    for number in range(many):
        backlog.set(number, MOST_BACKLOG)
    assert client.holders == {backlog}
    backlog.set(0, 0)
    assert not client.holders
