"""Which layers are listed, and which names are left-overs. Unpacking is in the integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kernel.config.sections import Config
from kernel.errors import Corrupt, NotFound
from kernel.ids import DiffId, Digest
from services.storage.layers.layer_store import LayerStore
from services.storage.layers.record import DAMAGED, NOTES, RECORD, Notes, Record

A, B = (DiffId(Digest(f"sha256:{letter * 64}")) for letter in "ab")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LayerStore]:
    config = Config(root=str(tmp_path))
    config.paths.layers.mkdir(parents=True)
    made = LayerStore(config)
    yield made
    made.close()


def put(store: LayerStore, diff_id: DiffId, *, notes: bool = False) -> Path:
    folder = store._paths.layer(diff_id)
    (folder / "diff").mkdir(parents=True)
    (folder / RECORD).write_bytes(msgspec.json.encode(Record(bytes=1, inodes=1, root=True, notes=notes)))
    return folder


def test_a_layer_without_a_whole_record_is_a_left_over(store: LayerStore) -> None:
    put(store, A)
    (put(store, B) / RECORD).write_text("{")
    (store._paths.layers / ".tmp-1").mkdir()
    assert list(store.all()) == [A]
    assert store.partial() == [".tmp-1", "b" * 64]
    assert store.folders((A,)) == [store._paths.layer(A) / "diff"]
    with pytest.raises(NotFound):
        store.folders((A, B))


def test_a_layer_that_is_dropped_keeps_its_files(store: LayerStore) -> None:
    folder = put(store, A)
    for _ in range(2):
        store.drop(A)
    assert store.find(A) is None
    assert sorted(path.name for path in folder.iterdir()) == [DAMAGED, "diff"]
    store.sweep(folder.name, used=lambda _: None)
    assert not folder.exists()


def test_notes(store: LayerStore) -> None:
    put(store, A)
    folder = put(store, B, notes=True)
    assert store.notes(A) == Notes()
    with pytest.raises(Corrupt, match="notes cannot be read"):
        store.notes(B)
    (folder / NOTES).write_bytes(msgspec.json.encode(Notes(implied=("a",))))
    assert store.notes(B).implied == ("a",)


def test_the_layer_of_a_name(store: LayerStore) -> None:
    names = ("a" * 64, f".old-{'a' * 64}-0123", ".tmp-0123", "x")
    assert [store.layer_of(name) for name in names] == [A, A, None, None]
