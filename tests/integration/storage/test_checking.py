"""Checks of the service: damaged layers leave the list and nobody's files; suspect ones are asked before use."""

from __future__ import annotations

import asyncio
import os

import msgspec
import pytest

from kernel.contracts.definition import Nothing
from kernel.contracts.storage import Checked, CheckRequest, ContainerRequest, LayerState, MountRequest
from kernel.errors import Corrupt, Internal, NotFound
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, DiffId, Digest, new_id
from services.storage.layers.checking import Checker, damaged, evaluate
from services.storage.layers.children import Ended
from services.storage.layers.hash_pump import Pumped
from services.storage.layers.record import RECORD, Record
from services.storage.layers.unverified import FILE, State
from services.storage.methods import create
from tests.integration.storage.conftest import CALL, Store, Tar

DIFF = DiffId(Digest("sha256:" + "1" * 64))
RECORDED = Record(bytes=1, inodes=2, root=False)


def test_the_worker_believes_its_own_hash_alone() -> None:
    lied = Ended(returncode=0, answer=b'{"inodes": 2, "opaque": []}')
    other = Pumped(digest=Digest("sha256:" + "2" * 64), bytes=1, over=False)
    assert evaluate(DIFF, RECORDED, other, lied) == damaged(f"its files give the tar {other.digest}")


@pytest.mark.parametrize(
    "ended",
    [
        Ended(returncode=-9, answer=b""),
        Ended(returncode=3, answer=b'{"error": "Internal", "message": "EIO"}'),
        Ended(returncode=0, answer=b"?"),
    ],
)
def test_what_could_not_be_found_out_is_no_damage(ended: Ended) -> None:
    with pytest.raises(Internal, match="could not be checked"):
        evaluate(DIFF, RECORDED, Pumped(digest=DIFF, bytes=1, over=False), ended)


async def test_a_damaged_layer_is_made_again_under_a_container_that_reads_it(store: Store) -> None:
    layer = store.blob(Tar().add("a", b"right").bytes())
    await store.unpack_layer(layer)
    reading, root = await store.mount(layer.diff_id)
    (store.diff(layer.diff_id) / "a").write_bytes(b"wrong")
    found = await store.service.check(CheckRequest(diff_id=layer.diff_id, drop=True), CALL)
    assert found.state is LayerState.DAMAGED
    assert (await store.service.layers(Nothing(), CALL)).layers == {}
    with pytest.raises(NotFound):
        await store.mount(layer.diff_id)
    await store.service.sweep(Nothing(), CALL)  # busy is not corrupt: nothing is taken from under a container
    assert (root / "a").read_bytes() == b"wrong"
    await store.unpack_layer(layer)
    other, fresh = await store.mount(layer.diff_id)
    assert (fresh / "a").read_bytes() == b"right"
    assert os.listdir(root) == ["a"]
    assert (await store.service.inventory(Nothing(), CALL)).partial == ()
    assert store.left_over()
    again = await create(store.config)
    try:
        for container in (reading, other):  # the last one who has the layer, old or new
            await again.unmount(ContainerRequest(container_id=container), CALL)
        assert store.left_over() == []
    finally:
        await again.close()


async def test_notes_that_do_not_read_back_are_damage(store: Store) -> None:
    layer = store.blob(Tar().add("implied/a").bytes())
    await store.unpack_layer(layer)
    (store.paths.layer(layer.diff_id) / "notes.json").write_bytes(b"{")
    with pytest.raises(Corrupt, match="--repair"):
        await store.mount(layer.diff_id)
    found = await store.service.check(CheckRequest(diff_id=layer.diff_id, drop=True), CALL)
    assert found.state is LayerState.DAMAGED
    await store.unpack_layer(layer)
    await store.mount(layer.diff_id)


async def test_what_a_container_held_goes_with_it(store: Store) -> None:
    layer = store.blob(Tar().add("a", b"right").bytes())
    await store.unpack_layer(layer)
    (store.diff(layer.diff_id) / "a").unlink()
    await store.service.check(CheckRequest(diff_id=layer.diff_id, drop=True), CALL)
    await store.unpack_layer(layer)
    assert store.left_over() == []


async def test_a_layer_that_is_not_there(store: Store) -> None:
    assert (await store.service.check(CheckRequest(diff_id=DIFF), CALL)).state is LayerState.MISSING


async def test_after_the_host_went_down_layers_of_that_boot_are_asked_first(store: Store) -> None:
    good, bad, old = [await store.unpack(Tar().add(name, name.encode())) for name in ("good", "bad", "old")]
    (store.diff(bad) / "bad").write_bytes(b"b\0d")
    (store.diff(old) / "old").write_bytes(b"o\0d")  # of an earlier boot: written back long ago, and not asked
    await store.service.close()
    for diff_id, boot in ((good, "that"), (bad, "that"), (old, "earlier")):
        file = store.paths.layer(diff_id) / RECORD
        record = msgspec.json.decode(file.read_bytes(), type=Record)
        file.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, boot=boot)))
    state = store.paths.layers.parent / FILE
    state.write_bytes(msgspec.json.encode(State(boot="that")))
    service = await create(store.config)
    try:
        with pytest.raises(NotFound, match=bad):  # it waits for its check
            await service.mount(MountRequest(container_id=ContainerId(new_id()), layers=(bad,)), CALL)
        await service.settle(Nothing(), CALL)
        assert set((await service.layers(Nothing(), CALL)).layers) == {good, old}
        await service.mount(MountRequest(container_id=ContainerId(new_id()), layers=(good, old)), CALL)
    finally:
        await service.close()
    assert msgspec.json.decode(state.read_bytes(), type=State).suspects == ()


async def test_a_layer_that_cannot_be_checked_stays_suspect_and_holds_no_other_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await store.unpack(Tar().add(name)) for name in ("first", "second")]
    (store.diff(second) / "second").unlink()
    await store.service.close()
    state = store.paths.layers.parent / FILE
    boot = msgspec.json.decode(state.read_bytes(), type=State).boot
    state.write_bytes(msgspec.json.encode(State(boot=boot, suspects=(first, second))))
    check = Checker.check

    async def fails(self: Checker, diff_id: DiffId, deadline: Deadline) -> Checked:
        if diff_id == first:
            raise Internal("its folder cannot be read now")
        return await check(self, diff_id, deadline)

    monkeypatch.setattr(Checker, "check", fails)
    service = await create(store.config)
    try:
        await service.settle(Nothing(), CALL)
        assert set((await service.layers(Nothing(), CALL)).layers) == {first}
        request = MountRequest(container_id=ContainerId(new_id()), layers=(first,))
        with pytest.raises(Internal, match="cannot be read now"):
            await service.mount(request, CALL)
        assert msgspec.json.decode(state.read_bytes(), type=State).suspects == (first,)
        monkeypatch.undo()
        await service.mount(request, CALL)
    finally:
        await service.close()


async def test_a_worker_that_was_only_killed_asks_nothing(store: Store) -> None:
    diff_id = await store.unpack(Tar().add("a", b"x"))
    (store.diff(diff_id) / "a").write_bytes(b"y")
    again = await create(store.config)  # the first one never closed: as after SIGKILL
    try:
        await again.settle(Nothing(), CALL)
        assert diff_id in (await again.layers(Nothing(), CALL)).layers
    finally:
        await again.close()


async def test_checks_of_one_layer_join(store: Store) -> None:
    diff_id = await store.unpack(Tar().add("a", b"x"))
    request = CheckRequest(diff_id=diff_id)
    found = await asyncio.gather(*(store.service.check(request, CALL) for _ in range(4)))
    assert {one.state for one in found} == {LayerState.WHOLE}
