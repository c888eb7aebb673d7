"""The folder of verified blobs."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from kernel.contracts.oci import Descriptor
from kernel.errors import Cancelled, Corrupt, InvalidInput, ResourceExhausted
from kernel.ids import Digest
from services.image.blobs import BlobFolder, Incoming

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


def test_a_full_disk_while_writing(blobs: BlobFolder, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "write", full)
    with blobs.begin() as incoming, pytest.raises(ResourceExhausted):
        incoming.write(DATA)
    assert everything(folder) == []


def whole(size: int) -> tuple[bytes, Descriptor]:
    data = os.urandom(size)
    return data, Descriptor(media_type="x", digest=Digest(f"sha256:{hashlib.sha256(data).hexdigest()}"), size=size)


def resume(blobs: BlobFolder, blob: Descriptor) -> Incoming:
    return blobs.resume(blob, lambda: False)


def test_a_broken_off_blob_is_gone_on_with(blobs: BlobFolder, folder: Path) -> None:
    data, blob = whole(200_000)
    with resume(blobs, blob) as incoming:
        incoming.write(data[:100_000])
    BlobFolder(folder).prepare()
    with resume(blobs, blob) as incoming:
        assert incoming.size == 100_000
        incoming.write(data[100_000:])
        incoming.seal(blob.digest, "x")
        incoming.commit()
    assert [path.read_bytes() for path in everything(folder)] == [data]


def test_few_bytes_are_not_kept(blobs: BlobFolder, folder: Path) -> None:
    data, blob = whole(200_000)
    with resume(blobs, blob) as incoming:
        incoming.write(data[:1000])
    assert everything(folder) == []
    resume(blobs, blob).write(data[:1000])  # as a process leaves it that dies
    BlobFolder(folder).prepare()
    assert everything(folder) == []


def test_more_bytes_than_the_blob_has_are_not_its(blobs: BlobFolder) -> None:
    data, blob = whole(200_000)
    with resume(blobs, blob) as incoming:
        incoming.write(data + b"x")
    with resume(blobs, blob) as incoming:
        assert incoming.size == 0


def test_one_writer_at_a_time(blobs: BlobFolder, folder: Path) -> None:
    data, blob = whole(200_000)
    with resume(blobs, blob) as first, resume(blobs, blob) as second:
        first.write(data[:100_000])
        second.write(data)
        second.seal(blob.digest, "x")
        second.commit()
        blobs.collect(time.time(), most_bytes=0)
        assert len(everything(folder)) == 2
    assert blobs.has(blob)


def test_giving_up_while_hashing(blobs: BlobFolder, folder: Path) -> None:
    data, blob = whole(200_000)
    with resume(blobs, blob) as incoming:
        incoming.write(data[:100_000])
    with pytest.raises(Cancelled):
        blobs.resume(blob, lambda: True)
    assert [path.stat().st_size for path in everything(folder)] == [100_000]


def test_old_and_too_many_broken_off_blobs_go(blobs: BlobFolder, folder: Path) -> None:
    now = time.time()
    for age in (90_000, 7200, 3600):
        data, blob = whole(200_000)
        with resume(blobs, blob) as incoming:
            incoming.write(data[:100_000])
        newest = folder.parent / "partial" / f"{blob.digest.removeprefix('sha256:')}.partial"
        os.utime(newest, (now - age, now - age))
    blobs.collect(now)
    assert len(everything(folder)) == 2
    blobs.collect(now, most_bytes=150_000)
    assert everything(folder) == [newest]
