"""Headers that crisp writes read back the same: by its own strict reader, and by Python's."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.formats import tar_header
from kernel.formats.tar_header import Kind
from services.storage.tar.reader import Entry, entries
from tests.unit.services.storage.tar.test_reader import Bytes


def read(*parts: bytes) -> list[Entry]:
    return list(entries(Bytes(b"".join((*parts, tar_header.END)))))


def python(*parts: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join((*parts, tar_header.END)))) as archive:
        return archive.getmembers()


def test_a_plain_file_takes_one_block_and_its_data() -> None:
    made = tar_header.header(b"a/b", size=5, mode=0o4755, uid=7, gid=8, mtime_ns=9_000_000_000)
    assert len(made) == 512
    entry = read(made, b"hello", tar_header.padding(5))[0]
    assert entry == Entry(Kind.FILE, b"a/b", b"", 5, 0o4755, 7, 8, 9_000_000_000)
    member = python(made, b"hello", tar_header.padding(5))[0]
    assert (member.name, member.size, member.mode, member.uid, member.mtime) == ("a/b", 5, 0o4755, 7, 9)


@pytest.mark.parametrize("length", [99, 100, 101, 1000, 4000])
def test_a_path_of_any_length_is_whole(length: int) -> None:
    path, link = b"p" * length, b"t" * length
    made = tar_header.header(path, Kind.SYMLINK, link=link, mode=0o777)
    assert (read(made)[0].path, read(made)[0].link, read(made)[0].kind) == (path, link, Kind.SYMLINK)
    assert (python(made)[0].name, python(made)[0].linkname) == (path.decode(), link.decode())


def test_what_a_header_cannot_hold_goes_into_records() -> None:
    made = tar_header.header(
        b"f", uid=1 << 31, gid=(1 << 32) - 2, mtime_ns=1_500_000_000_123_456_789,
        xattrs=[(b"user.n\xc3\xa4me", b"a=b\nc"), (b"security.capability", bytes(20))],
    )  # fmt: skip
    entry = read(made)[0]
    assert (entry.uid, entry.gid, entry.mtime_ns) == (1 << 31, (1 << 32) - 2, 1_500_000_000_123_456_789)
    assert entry.xattrs == ((b"user.n\xc3\xa4me", b"a=b\nc"), (b"security.capability", bytes(20)))
    assert tar_header.header(b"f", size=1 << 40).count(b"size=%d" % (1 << 40)) == 1


def test_devices_links_and_folders() -> None:
    made = [
        tar_header.header(b"n", Kind.CHARACTER, device=(1, 3)), tar_header.header(b"d", Kind.DIRECTORY, mode=0o1777),
        tar_header.header(b"h", Kind.HARD_LINK, link=b"n"), tar_header.header(b"p", Kind.FIFO),
    ]  # fmt: skip
    node, folder, hard, pipe = read(*made)
    assert (node.kind, node.major, node.minor) == (Kind.CHARACTER, 1, 3)
    assert (folder.kind, folder.path, folder.mode) == (Kind.DIRECTORY, b"d/", 0o1777)
    assert (hard.kind, hard.link, pipe.kind) == (Kind.HARD_LINK, b"n", Kind.FIFO)


@given(st.binary(min_size=1, max_size=300).filter(lambda name: not set(name) & {0, 47}), st.integers(0, 1 << 62))
def test_any_name_and_time_reads_back(name: bytes, mtime_ns: int) -> None:
    entry = read(tar_header.header(name, mtime_ns=min(mtime_ns, (1 << 33) * 1_000_000_000)))[0]
    assert entry.path == name
    assert entry.mtime_ns == min(mtime_ns, (1 << 33) * 1_000_000_000)


@given(st.integers(1, 1200))
def test_a_record_counts_its_own_digits(length: int) -> None:
    assert read(tar_header.header(b"f", xattrs=[(b"user.x", b"v" * length)]))[0].xattrs == ((b"user.x", b"v" * length),)
