"""Calls for a container join and repeat; the layers that it claims stay."""

from __future__ import annotations

import asyncio
import os

import pytest

from kernel.contracts.storage import ContainerRequest, LayerRequest, MountRequest
from kernel.errors import FailedPrecondition, InvalidInput, NotFound
from kernel.ids import ContainerId, DiffId, Digest, new_id
from services.storage.roots.overlay import read_overlays
from tests.integration.storage.conftest import CALL, Store, Tar


async def test_mounted_already_is_the_same_answer(store: Store) -> None:
    lowest = await store.unpack(Tar().add("etc/passwd", b"root:x:0:0::/:/bin/sh\n").add("etc/group", b"root:x:0:\n"))
    request = MountRequest(container_id=ContainerId(new_id()), layers=(lowest,))
    answers = await asyncio.gather(*(store.service.mount(request, CALL) for _ in range(3)))
    answers.append(await store.service.mount(request, CALL))
    assert len(set(answers)) == 1
    assert answers[0].passwd == b"root:x:0:0::/:/bin/sh\n"
    assert answers[0].group == b"root:x:0:\n"
    assert len([path for path in read_overlays() if request.container_id in path]) == 1
    other = MountRequest(container_id=request.container_id, layers=(lowest, lowest))
    with pytest.raises(FailedPrecondition):
        await store.service.mount(other, CALL)


async def test_a_layer_in_use_stays(store: Store) -> None:
    diff_id = await store.unpack(Tar().folder("d").add("d/a", b"base a"))
    container, _ = await store.mount(diff_id)
    with pytest.raises(FailedPrecondition, match=container):
        await store.service.remove_layer(LayerRequest(diff_id=diff_id), CALL)
    await store.service.unmount(ContainerRequest(container_id=container), CALL)
    await store.service.remove_layer(LayerRequest(diff_id=diff_id), CALL)


async def test_a_missing_layer(store: Store) -> None:
    missing = DiffId(Digest("sha256:" + "0" * 64))
    with pytest.raises(NotFound, match=missing):
        await store.mount(missing)
    assert os.listdir(store.paths.containers) == []


async def test_an_id_that_is_a_path(store: Store) -> None:
    bad = ContainerId("../layers")
    with pytest.raises(InvalidInput):
        await store.service.mount(MountRequest(container_id=bad, layers=()), CALL)
    for call in (store.service.unmount, store.service.usage):
        with pytest.raises(InvalidInput):
            await call(ContainerRequest(container_id=bad), CALL)
