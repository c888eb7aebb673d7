"""Which layers are suspect, from the file and the boot; and that they stay so until each was checked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from kernel.config.sections import Config
from kernel.ids import DiffId, Digest
from services.storage.layers.layer_store import LayerStore
from services.storage.layers.record import Record
from services.storage.layers.unverified import State, Unverified, plan

A, B = (DiffId(Digest(f"sha256:{letter * 64}")) for letter in "ab")
MADE = {A: "one", B: "two"}


@pytest.mark.parametrize(
    ("before", "suspects"),
    [
        (None, ()),  # the first start ever
        (State(boot="two"), (B,)),  # the host went down
        (State(boot="two", clean=True), ()),
        (State(boot="three"), ()),  # the same boot: a worker was killed
        (State(boot="three", suspects=(A,)), (A,)),  # and had not checked all
        (State(boot="two", suspects=(A,)), (A, B)),  # went down again before all were checked
        (State(boot="two", clean=True, suspects=(A,)), (A,)),
        (State(boot="three", suspects=(DiffId(Digest("sha256:" + "c" * 64)),)), ()),  # removed meanwhile
    ],
)
def test_who_is_suspect(before: State | None, suspects: tuple[DiffId, ...]) -> None:
    assert plan(before, "three", MADE) == State(boot="three", suspects=suspects)


def test_a_file_that_does_not_read_back_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b"\0")
    layers = LayerStore(Config(root=str(tmp_path)))
    try:
        suspects = Unverified(tmp_path, layers)
        assert suspects.pending == ()
        suspects.end()
        assert Unverified(tmp_path, layers).pending == ()
    finally:
        layers.close()


def test_checks_that_end_at_once_are_all_noted(tmp_path: Path) -> None:
    many = tuple(DiffId(Digest(f"sha256:{number:064x}")) for number in range(64))
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(State(boot="before", suspects=many)))
    layers = LayerStore(Config(root=str(tmp_path)))
    layers.all = lambda: dict.fromkeys(many, Record(bytes=1, inodes=1, root=True, boot="before"))  # type: ignore[method-assign]
    try:
        suspects = Unverified(tmp_path, layers)
        assert set(suspects.pending) == set(many)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(suspects.clear, many))
        assert suspects.pending == ()
        assert msgspec.json.decode((tmp_path / "state.json").read_bytes(), type=State).suspects == ()
    finally:
        layers.close()
