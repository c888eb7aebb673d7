"""Claims on layers, and which folders are containers'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kernel.config.sections import Config
from kernel.errors import FailedPrecondition, InvalidInput, NotFound
from kernel.ids import ContainerId, DiffId, Digest
from services.storage.layers.layer_store import LayerStore
from services.storage.layers.record import RECORD, Record
from services.storage.roots.container_folders import ContainerFolders

A, B, C = (DiffId(Digest(f"sha256:{letter * 64}")) for letter in "abc")
ONE, TWO = (ContainerId(digit * 64) for digit in "12")


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[ContainerFolders]:
    config = Config(root=str(tmp_path))
    for diff_id in (A, B):
        (config.paths.layer(diff_id) / "diff").mkdir(parents=True)
        record = msgspec.json.encode(Record(bytes=1, inodes=1, root=True))
        (config.paths.layer(diff_id) / RECORD).write_bytes(record)
    config.paths.containers.mkdir(parents=True)
    layers = LayerStore(config)
    yield ContainerFolders(config.paths, layers)
    layers.close()


def test_a_claim_is_kept_and_repeated(folders: ContainerFolders) -> None:
    for _ in range(2):
        folders.claim(ONE, (A,), ((B,),))
    assert (folders.layers_of(ONE), folders.volumes_of(ONE)) == ((A,), ((B,),))
    assert [folders.user_of(diff_id) for diff_id in (A, B, C)] == [ONE, ONE, None]
    for layers, volumes in (((A, B), ((B,),)), ((A,), ())):
        with pytest.raises(FailedPrecondition, match="of other layers"):
            folders.claim(ONE, layers, volumes)


def test_a_layer_that_is_not_there_cannot_be_claimed(folders: ContainerFolders) -> None:
    with pytest.raises(NotFound):
        folders.claim(ONE, (A, C))
    assert folders.all() == []


def test_a_note_that_does_not_read_is_written_again(folders: ContainerFolders) -> None:
    folders.claim(ONE, (A,))
    (folders.of(ONE) / "lower").write_bytes(b"")
    assert folders.layers_of(ONE) is None
    folders.claim(ONE, (B,))
    assert folders.layers_of(ONE) == (B,)


def test_what_is_no_containers_is_a_left_over(folders: ContainerFolders) -> None:
    folders.claim(ONE, (A,))
    folders.of(TWO).with_name("other").mkdir()
    with folders.temporary() as path:
        path.mkdir()
        assert folders.partial() == ["other"]
    assert folders.partial() == [path.name, "other"]
    folders.discard(path.name)
    assert (folders.all(), folders.partial()) == ([ONE], ["other"])


def test_a_path_is_no_id(folders: ContainerFolders) -> None:
    with pytest.raises(InvalidInput):
        folders.of(ContainerId("../x"))
