"""What waits for readers stops a client before it is much."""

from __future__ import annotations

from kernel.stream.wires.carrier import MOST_WAITING, Backlog
from kernel.stream.wires.channel import MOST_BACKLOG


class Link:
    def __init__(self) -> None:
        self.holders: set[object] = set()

    def hold(self, holder: object) -> None:
        self.holders.add(holder)

    def release(self, holder: object) -> None:
        self.holders.discard(holder)


def test_one_channel_with_much() -> None:
    link = Link()
    backlog = Backlog(link)  # type: ignore[arg-type]
    backlog.set("a", MOST_BACKLOG)
    assert not link.holders
    backlog.set("a", MOST_BACKLOG + 1)
    assert link.holders == {"a"}
    backlog.set("a", 0)
    assert not link.holders


def test_many_channels_with_little_each() -> None:
    link = Link()
    backlog = Backlog(link)  # type: ignore[arg-type]
    many = MOST_WAITING // MOST_BACKLOG + 1
    for number in range(many):
        backlog.set(number, MOST_BACKLOG)
    assert link.holders == {backlog}
    backlog.set(0, 0)
    assert not link.holders
