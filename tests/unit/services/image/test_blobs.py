"""The folder of verified blobs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt, Internal, InvalidInput, ResourceExhausted
from kernel.ids import Digest
from services.image.blobs import BlobFolder, failed

DATA = b"some bytes"
DIGEST = Digest(f"sha256:{hashlib.sha256(DATA).hexdigest()}")
BLOB = Descriptor(media_type="x", digest=DIGEST, size=len(DATA))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs" / "sha256"


@pytest.fixture
def blobs(folder: Path) -> BlobFolder:
    found = BlobFolder(folder)
    found.prepare()
    return found


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.parent.rglob("*") if path.is_file()]


def test_a_blob_appears_whole_under_its_digest(blobs: BlobFolder, folder: Path) -> None:
    with blobs.begin() as incoming:
        incoming.write(DATA[:4])
        incoming.write(memoryview(DATA)[4:])
        assert not blobs.has(BLOB)
        assert incoming.seal(DIGEST, "x") == DIGEST
        assert not blobs.has(BLOB)
        incoming.commit()
        assert blobs.has(BLOB)
    assert [path.read_bytes() for path in everything(folder)] == [DATA]
    assert blobs.path(DIGEST).stat().st_mode & 0o077 == 0
    assert blobs.sizes() == {DIGEST: len(DATA)}


def test_wrong_bytes_leave_nothing(blobs: BlobFolder, folder: Path) -> None:
    with blobs.begin() as incoming:
        incoming.write(b"other bytes")
        with pytest.raises(Corrupt, match=r"registry\.example"):
            incoming.seal(DIGEST, "registry.example")
    assert everything(folder) == []


def test_start_empties_what_was_partial(blobs: BlobFolder, folder: Path) -> None:
    blobs.begin()  # as a process leaves it that dies
    assert len(everything(folder)) == 1
    BlobFolder(folder).prepare()
    assert everything(folder) == []


def test_a_file_of_another_size_is_not_the_blob(blobs: BlobFolder) -> None:
    blobs.path(DIGEST).write_bytes(DATA[:-1])
    assert not blobs.has(BLOB)


def test_dropping(blobs: BlobFolder, folder: Path) -> None:
    blobs.path(DIGEST).write_bytes(DATA)
    (folder / "other").touch()
    blobs.drop([DIGEST, DIGEST])
    assert everything(folder) == [folder / "other"]
    with pytest.raises(InvalidInput):
        blobs.drop([Digest("sha256:../other")])


def test_room_and_errors(blobs: BlobFolder, folder: Path) -> None:
    blobs.check_room(1)
    with pytest.raises(ResourceExhausted, match=str(folder)):
        blobs.check_room(1 << 60)
    assert isinstance(failed(OSError(28, os.strerror(28)), folder), ResourceExhausted)
    assert isinstance(failed(OSError(5, os.strerror(5)), folder), Internal)


def test_a_full_disk_while_writing(blobs: BlobFolder, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "write", full)
    with blobs.begin() as incoming, pytest.raises(ResourceExhausted):
        incoming.write(DATA)
    assert everything(folder) == []
