"""Tars of layers, made again for an archive."""

from __future__ import annotations

import errno
import os

import pytest

from kernel.contracts.storage import ExportRequest
from kernel.errors import Corrupt, CrispError, FailedPrecondition, InvalidInput, NotFound, ResourceExhausted
from kernel.ids import DiffId
from services.storage.layers import hash_pump
from services.storage.methods import create
from tests.integration.storage.conftest import CALL, Store, Tar, sha256

NAME = f"{'a' * 32}.tar"


@pytest.fixture
def outgoing(store: Store) -> Store:
    store.paths.outgoing.mkdir(parents=True)
    return store


async def export(store: Store, diff_id: DiffId, name: str = NAME) -> int:
    return (await store.service.export(ExportRequest(diff_id=diff_id, name=name), CALL)).size


def left(store: Store) -> list[str]:
    return os.listdir(store.paths.outgoing)


async def test_the_tar_is_the_one_that_came(outgoing: Store) -> None:
    tar = Tar().folder("a", mode=0o750).add("a/b", b"x" * 100_000).link("c", "a/b").add("a/.wh.gone").bytes()
    layer = await outgoing.unpack(tar)
    assert await export(outgoing, layer) == (size := await export(outgoing, layer))  # it may be asked for again
    path = outgoing.paths.outgoing / NAME
    assert (path.read_bytes(), size, path.stat().st_mode & 0o777) == (tar, len(tar), 0o600)
    again = await create(outgoing.config)
    await again.close()  # a new worker takes away what nobody fetched
    assert left(outgoing) == []


async def test_what_cannot_be_had_leaves_nothing(outgoing: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    good = await outgoing.unpack(Tar().add("a", b"good"))
    twice = await outgoing.unpack(Tar().add("b", b"first").add("b", b"second"))
    cases: list[tuple[DiffId, str, type[CrispError]]] = [
        (DiffId(sha256(b"none")), NAME, NotFound),
        (good, "../x.tar", InvalidInput),
        (twice, NAME, FailedPrecondition),
    ]
    for diff_id, name, error in cases:
        with pytest.raises(error):
            await export(outgoing, diff_id, name)
    (outgoing.diff(good) / "a").write_bytes(b"evil")
    with pytest.raises(Corrupt, match="its files give the tar"):
        await export(outgoing, good)
    (outgoing.diff(good) / "a").write_bytes(b"good")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(hash_pump.os, "write", full)
        with pytest.raises(ResourceExhausted, match="No space"):
            await export(outgoing, good)
    assert left(outgoing) == []
    assert await export(outgoing, good)
