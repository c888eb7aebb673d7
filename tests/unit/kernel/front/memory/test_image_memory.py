"""The progress of a pull, and how its watchers learn of it."""

from __future__ import annotations

from kernel.front.memory.image_memory import LayerProgress, Phase, PullProgress
from kernel.ids import Digest

LAYER = Digest("sha256:" + "1" * 64)


def test_progress_stays_within_the_blob() -> None:
    progress = PullProgress()
    progress.set(LAYER, Phase.DOWNLOADING, 100, 140)
    assert progress.layers == {LAYER: LayerProgress(Phase.DOWNLOADING, 100, 100)}
    progress.set(LAYER, Phase.DONE, 100)
    assert progress.layers == {LAYER: LayerProgress(Phase.DONE, 100, 100)}


def test_a_watcher_is_woken_until_it_leaves() -> None:
    progress = PullProgress()
    first, second = progress.watch(), progress.watch()
    progress.set(LAYER, Phase.WAITING, 100)
    assert (first.is_set(), second.is_set()) == (True, True)
    for event in (first, second):
        event.clear()
    progress.unwatch(first)
    progress.set(LAYER, Phase.UNPACKING, 100)
    assert (first.is_set(), second.is_set()) == (False, True)
