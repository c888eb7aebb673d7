"""Sums without a look at the disk, and whose turn it is to be looked at."""

from __future__ import annotations

from kernel.contracts.storage import Usage
from kernel.ids import ContainerId, DiffId, Digest
from services.storage.layers.usage_cache import FRESH_SECONDS, OLD_SECONDS, Counters

LAYER, OTHER = (DiffId(Digest(f"sha256:{letter * 64}")) for letter in "ab")
ONE, TWO = ContainerId("1" * 64), ContainerId("2" * 64)


def usage(size: int) -> Usage:
    return Usage(bytes=size, inodes=size // 10)


def test_layers_come_and_go() -> None:
    counters = Counters()
    counters.load({LAYER: usage(100)}, ())
    counters.layer_is(OTHER, usage(50))
    assert counters.layers == usage(150)
    counters.layer_is(LAYER, None)
    counters.layer_is(LAYER, None)
    assert counters.layers == usage(50)


def test_the_oldest_is_due_and_the_youngest_is_the_answer() -> None:
    counters = Counters()
    counters.load({}, (ONE,))
    counters.container_is(TWO, usage(70), 1000.0)
    assert counters.due(1000.0) == ONE  # never measured
    counters.container_is(ONE, usage(30), 1001.0)
    assert counters.due(1001.0) is None
    assert counters.containers == usage(100)
    assert counters.due(1000.0 + OLD_SECONDS + 1) == TWO
    assert counters.fresh(TWO, 1000.0 + FRESH_SECONDS) == usage(70)
    assert counters.fresh(TWO, 1001.0 + FRESH_SECONDS) is None
    counters.container_is(TWO, None, 0)
    assert (counters.containers, counters.fresh(TWO, 1000.0)) == (usage(30), None)


def test_loading_forgets_nothing_that_was_measured_meanwhile() -> None:
    counters = Counters()
    counters.container_is(ONE, usage(30), 5.0)
    counters.load({}, (ONE, TWO))
    assert counters.fresh(ONE, 6.0) == usage(30)
    assert counters.due(6.0) == TWO
