"""Sums without a look at the disk, and whose turn it is to be looked at."""

from __future__ import annotations

from kernel.contracts.storage import Usage
from kernel.ids import ContainerId, DiffId, Digest
from services.storage.trees.usage_cache import FRESH_SECONDS, OLD_SECONDS, UsageCache

LAYER, OTHER = (DiffId(Digest(f"sha256:{letter * 64}")) for letter in "ab")
ONE, TWO = ContainerId("1" * 64), ContainerId("2" * 64)


def usage(size: int) -> Usage:
    return Usage(bytes=size, inodes=size // 10)


def test_layers_come_and_go() -> None:
    cache = UsageCache()
    cache.load({LAYER: usage(100)}, ())
    cache.set_layer(OTHER, usage(50))
    assert cache.layers == usage(150)
    cache.set_layer(LAYER, None)
    cache.set_layer(LAYER, None)
    assert cache.layers == usage(50)


def test_the_oldest_is_due_and_the_youngest_is_the_answer() -> None:
    cache = UsageCache()
    cache.load({}, (ONE,))
    cache.set_container(TWO, usage(70), 1000.0)
    assert cache.due(1000.0) == ONE  # never measured
    cache.set_container(ONE, usage(30), 1001.0)
    assert cache.due(1001.0) is None
    assert cache.containers == usage(100)
    assert cache.due(1000.0 + OLD_SECONDS + 1) == TWO
    assert cache.fresh(TWO, 1000.0 + FRESH_SECONDS) == usage(70)
    assert cache.fresh(TWO, 1001.0 + FRESH_SECONDS) is None
    cache.set_container(TWO, None, 0)
    assert (cache.containers, cache.fresh(TWO, 1000.0)) == (usage(30), None)


def test_loading_forgets_nothing_that_was_measured_meanwhile() -> None:
    cache = UsageCache()
    cache.set_container(ONE, usage(30), 5.0)
    cache.load({}, (ONE, TWO))
    assert cache.fresh(ONE, 6.0) == usage(30)
    assert cache.due(6.0) == TWO
