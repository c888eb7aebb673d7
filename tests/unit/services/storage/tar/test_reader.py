"""The strict tar reader: what Python's writer makes reads back, and what readers disagree on is refused."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import InvalidInput
from kernel.formats.tar_header import Kind
from services.storage.tar.reader import Entry, entries, parse_pax


class Bytes:
    """A `Source` in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def take(self, count: int) -> bytes:
        part = self._data[self.offset : self.offset + count]
        self.offset += len(part)
        return part

    def skip(self, count: int) -> None:
        if len(self.take(count)) < count:
            raise InvalidInput("tar is cut off within an entry's data")


def read(data: bytes) -> list[Entry]:
    return list(entries(Bytes(data)))


def header(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.USTAR_FORMAT)


def pax(kind: bytes, *records: bytes) -> bytes:
    data = b"".join(records)
    return header("pax", kind, size=len(data)) + data.ljust(-(-len(data) // 512) * 512, b"\0")


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(str(length)) + len(key) + len(value) + 3 != length:
        length = len(str(length)) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


END = bytes(1024)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_kinds_read_back(form: int) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, kind, more in [
            ("d", tarfile.DIRTYPE, {"mode": 0o1777}),
            ("d/f", tarfile.REGTYPE, {"mode": 0o4755, "uid": 1000, "gid": 1001, "mtime": 1700000000, "size": 700}),
            ("d/h", tarfile.LNKTYPE, {"linkname": "d/f"}),
            ("d/s", tarfile.SYMTYPE, {"linkname": "../x"}),
            ("d/c", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3}),
            ("d/b", tarfile.BLKTYPE, {"devmajor": 8, "devminor": 1}),
            ("d/p", tarfile.FIFOTYPE, {}),
            ("l" * 90 + "/" + "m" * 99, tarfile.REGTYPE, {}),
        ]:
            info = tarfile.TarInfo(name)
            info.type = kind
            for key, value in more.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    found = read(file.getvalue())
    assert [entry.kind for entry in found] == [
        Kind.DIRECTORY, Kind.FILE, Kind.HARD_LINK, Kind.SYMLINK, Kind.CHARACTER, Kind.BLOCK, Kind.FIFO, Kind.FILE,
    ]  # fmt: skip
    file_entry = found[1]
    assert (file_entry.path, file_entry.mode, file_entry.uid, file_entry.gid, file_entry.size) == (
        b"d/f", 0o4755, 1000, 1001, 700,
    )  # fmt: skip
    assert file_entry.mtime_ns == 1700000000 * 10**9
    assert (found[2].link, found[3].link) == (b"d/f", b"../x")
    assert [(entry.major, entry.minor) for entry in found[4:6]] == [(1, 3), (8, 1)]
    assert found[7].path == b"l" * 90 + b"/" + b"m" * 99


def test_very_long_names_and_large_ids() -> None:
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as tar:
            info = tarfile.TarInfo("n" * 200 + "/" + "o" * 250)
            info.type, info.linkname = tarfile.SYMTYPE, "t" * 300
            info.uid = 3_000_000_000
            tar.addfile(info)
        (entry,) = read(file.getvalue())
        assert (len(entry.path), len(entry.link), entry.uid) == (451, 300, 3_000_000_000)


def test_pax_carries_nanoseconds_and_attributes() -> None:
    data = pax(
        b"x",
        record(b"mtime", b"1700000000.123456789"),
        record(b"SCHILY.xattr.user.a", b"1\n2=\0"),
        record(b"path", b"real"),
    )
    (entry,) = read(data + header("false") + END)
    assert entry.path == b"real"
    assert entry.mtime_ns == 1700000000123456789
    assert entry.xattrs == ((b"user.a", b"1\n2=\0"),)


def test_pax_is_for_one_entry() -> None:
    first, second = read(pax(b"x", record(b"path", b"real")) + header("a") + header("b") + END)
    assert (first.path, second.path) == (b"real", b"b")


def test_times_are_clamped() -> None:
    for text in (b"-5", b"99999999999999999999"):
        (entry,) = read(pax(b"x", record(b"mtime", text)) + header("a") + END)
        assert 0 <= entry.mtime_ns <= ((1 << 34) - 1) * 10**9


def test_pax_size_is_the_size_for_data_and_skip() -> None:
    data = pax(b"x", record(b"size", b"512")) + header("a", size=0) + b"z" * 512 + header("b") + END
    assert [(entry.path, entry.size) for entry in read(data)] == [(b"a", 512), (b"b", 0)]


def test_an_end_without_zeros_and_trailing_bytes() -> None:
    assert len(read(header("a"))) == 1
    assert len(read(header("a") + END + b"anything")) == 1
    assert read(b"") == []


def test_a_comment_for_all_is_ignored() -> None:
    assert len(read(pax(b"g", record(b"comment", b"0123")) + header("a") + END)) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header("a")[:300], "cut off"),
        (header("a", size=600) + b"x" * 512, "cut off"),
        (b"x" * 512, "not octal"),
        (header("a").replace(b"ustar", b"ustaq"), "damaged"),
        (header("a", tarfile.DIRTYPE, size=10), "with 10 bytes of data"),
        (header("a", tarfile.LNKTYPE, size=10, linkname="b"), "with 10 bytes of data"),
        (header("a", b"S"), "unknown type"),
        (header("a", b"V"), "unknown type"),
        (header("", tarfile.REGTYPE), "empty name"),
        (bytes(512) + header("a"), "lone block"),
        (pax(b"x", record(b"GNU.sparse.major", b"1")) + header("a"), "sparse"),
        (pax(b"x", record(b"uid", b"-1")) + header("a"), "malformed PAX uid"),
        (pax(b"x", record(b"uid", b"4294967295")) + header("a"), "impossible owner"),
        (pax(b"x", record(b"uid", b"1_0")) + header("a"), "malformed PAX uid"),
        (pax(b"x", record(b"uid", "٣".encode())) + header("a"), "malformed PAX uid"),
        (pax(b"x", record(b"size", b"")) + header("a"), "malformed PAX size"),
        (pax(b"x", record(b"mtime", b"inf")) + header("a"), "malformed PAX mtime"),
        (pax(b"x", record(b"path", b"")) + header("a"), "empty name"),
        (pax(b"x", record(b"path", b"a\0b")) + header("a"), "zero byte"),
        (pax(b"x", b"5 a=b\n") + header("a"), "does not add up"),
        (pax(b"x", b"-6 a=b\n") + header("a"), "does not add up"),
        (pax(b"x", b"9999 a=b\n") + header("a"), "does not add up"),
        (pax(b"x", b"0 a=b\n") + header("a"), "does not add up"),
        (pax(b"x", record(b"path", b"a")) + END, "without an entry"),
        (pax(b"x", record(b"path", b"a")) * 2 + header("a"), "two PAX headers"),
        (pax(b"g", record(b"path", b"a")) + header("a"), "global header"),
        (pax(b"g", record(b"SCHILY.xattr.user.a", b"a")) + header("a"), "global header"),
        (header("x", b"x", size=2 << 20), "extended header of"),
        (header("x", b"L", size=1 << 20), "extended header of"),
    ],
)
def test_what_is_not_clear_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read(data)


def test_a_negative_size_in_base_256_is_refused() -> None:
    block = bytearray(header("a"))
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(InvalidInput, match="impossible size"):
        read(bytes(block))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_no_record_ends_in_anything_but_a_mapping_or_a_refusal(data: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        parse_pax(data)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 511), st.binary(min_size=1, max_size=40), st.binary(max_size=64))
def test_no_header_ends_in_anything_but_entries_or_a_refusal(at: int, change: bytes, more: bytes) -> None:
    block = bytearray(header("name", size=3, linkname="target"))
    block[at : at + len(change)] = change
    block = block[:512]
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with contextlib.suppress(InvalidInput):
        read(bytes(block) + more)
