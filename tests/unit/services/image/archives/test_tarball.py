"""The outside of an image archive, well-formed and hostile."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.errors import InvalidInput
from services.image.archives.tarball import Tarball


@pytest.fixture
def tarball(tmp_path: Path):
    """Opens bytes as an archive."""
    opened: list[int] = []

    def make(data: bytes) -> Tarball:
        file = tmp_path / "archive.tar"
        file.write_bytes(data)
        opened.append(os.open(file, os.O_RDONLY))
        return Tarball(opened[-1], "archive x")

    yield make
    for fd in opened:
        os.close(fd)


Entry = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Entry:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


def tar(*members: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


Make = Callable[[bytes], Tarball]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_finds_members(tarball: Make, form: int) -> None:
    long = "blobs/" + "x" * 90 + "/y"
    found = tarball(
        tar(member("./a", b"one"), member(long, b"two" * 500), member("b/", kind=tarfile.DIRTYPE), form=form)
    )
    assert found.read("a", 10) == b"one"
    assert found.read(long, 2000) == b"two" * 500
    assert found.find("b") is None


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_finds_very_long_names(tarball: Make, form: int) -> None:
    long = "d/" + "ü" * 300
    assert tarball(tar(member(long, b"one"), member("z", b"two"), form=form)).read(long, 10) == b"one"


def test_a_later_file_wins_and_links_stay_inside(tarball: Make) -> None:
    found = tarball(
        tar(
            member("a", b"old"),
            member("a", b"new"),
            member("d/link", kind=tarfile.SYMTYPE, link="../a"),
            member("hard", kind=tarfile.LNKTYPE, link="a"),
            member("out", kind=tarfile.SYMTYPE, link="/etc/shadow"),
            member("up", kind=tarfile.SYMTYPE, link="../../etc/shadow"),
            member("loop", kind=tarfile.SYMTYPE, link="loop"),
        )
    )
    assert found.read("a", 10) == found.read("d/link", 10) == found.read("hard", 10) == b"new"
    for name in ("out", "up", "loop", "../a", "/a", "", "."):
        assert found.find(name) is None


def test_a_limit_bounds_what_is_read(tarball: Make) -> None:
    with pytest.raises(InvalidInput, match="larger"):
        tarball(tar(member("a", b"x" * 11))).read("a", 10)


def broken(change: Callable[[bytearray], None], *, resum: bool = True) -> bytes:
    """An archive whose first header was changed, with its check sum right again."""
    data = bytearray(tar(member("a", b"x" * 600)))
    change(data)
    if resum:
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def put(at: int, value: bytes) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at : at + len(value)] = value

    return change


def pax(records: bytes) -> bytes:
    return tar(member("x", records, tarfile.XHDTYPE), member("a", b"data"), form=tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1024,
        b"hello",
        b"\x1f\x8b" + b"x" * 600,
        broken(put(0, b"b"), resum=False),
        broken(put(124, b"99999999999\0")),
        broken(put(124, b"77777777777\0")),
        broken(put(124, b"\x80" + b"\xff" * 11)),
        broken(put(124, b"\xff" * 12)),
        broken(put(156, b"S")),
        broken(put(156, b"3")),
        broken(put(156, b"Q")),
        broken(put(0, b"../x")),
        tar(member("a", b"x" * 600))[:700],
        tar(member("a", b"x" * 600))[:300],
        pax(b"5 a=\n3 x\n"),
        pax(b"0 a=b\n"),
        pax(b"-1 a=b\n"),
        pax(b"999 a=b\n"),
        pax(b"6 a=bc"),
        pax(b"10 size=x\n"),
        pax(b"14 size=99999\n"),
        pax(b"22 GNU.sparse.major=1\n"),
        pax(b"x" * ((1 << 20) + 1)),
        pax(b"12 path=a\0b\n"),
        pax(b"5013 path=" + b"x" * 5002 + b"\n"),
    ],
)
def test_refuses(tarball: Make, data: bytes) -> None:
    with pytest.raises(InvalidInput, match="archive x"):
        tarball(data)


def test_a_compressed_archive_gets_a_hint(tarball: Make) -> None:
    with pytest.raises(InvalidInput) as caught:
        tarball(b"\x1f\x8b\x08" + b"x" * 600)
    assert "decompress" in caught.value.hint


def test_one_size_decides(tarball: Make) -> None:
    """A PAX size that differs from the header's: data and skip follow the same one."""
    data = tar(member("x", b"10 size=4\n", tarfile.XHDTYPE), member("a", b"data" * 200), member("b", b"end"),
               form=tarfile.USTAR_FORMAT)  # fmt: skip
    with pytest.raises(InvalidInput):
        tarball(data)
