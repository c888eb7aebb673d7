"""Layers that no image has are deleted, at last."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts import storage
from kernel.contracts.records import Intent, IntentKind
from kernel.contracts.supervisor import Commit
from kernel.errors import Corrupt, Unavailable
from kernel.front.context import Front
from kernel.front.images import layer_release
from kernel.host.aio import Deadline
from tests.harness.fakes import image_workers as fakes


async def test_released_layers_of_an_unfinished_removal(front: Front, workers) -> None:
    layer = fakes.digest_of(b"diff a")
    workers.layers.add(layer)
    intent = Intent(id="sha256:" + "e" * 64, kind=IntentKind.REMOVE_IMAGE, begun_at=1, layers=(layer,))
    await front.replica.commit(Commit(begin=(intent,)), Deadline.after(1))
    await layer_release.release(front, intent, Deadline.after(1))
    fakes.assert_nothing_left(front, workers)
    assert storage.REMOVE_LAYER.name in [name for name, _ in workers.calls]


@pytest.mark.parametrize("removing", [True, False])
async def test_layers_that_could_not_be_released_are_later(
    front: Front, workers, monkeypatch: pytest.MonkeyPatch, removing: bool
) -> None:
    monkeypatch.setattr("kernel.front.images.layer_release._FIRST_PAUSE", 0.001)
    workers.registry.push(fakes.BUSYBOX, "a", "b")
    workers.fail["remove_layer"] = lambda _: Unavailable("the storage worker is away")
    if removing:
        await fakes.pull(front)
        with pytest.raises(Unavailable):
            await fakes.remove(front, "busybox")
    else:
        workers.fail["unpack"] = lambda request: (
            Corrupt("wrong") if request.layer.diff_id == fakes.digest_of(b"diff b") else None
        )
        with pytest.raises(Corrupt):
            await fakes.pull(front)
    assert front.replica.intents
    while workers.count("remove_layer") < 5:
        await asyncio.sleep(0.001)
    del workers.fail["remove_layer"]
    while front.replica.intents:
        await asyncio.sleep(0.001)
    assert workers.layers == set()
