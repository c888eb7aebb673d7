"""What the entries of an archive of a checkpoint are for."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from services.storage.checkpoint import deleted_paths, form_of
from services.storage.tar.reader import Entry, Kind
from services.storage.tar.unarchive import Part, is_image_name, part_of


@pytest.mark.parametrize(
    ("path", "kind", "part"),
    [
        (b"checkpoint", Kind.DIRECTORY, Part.FOLDER),
        (b"./checkpoint/", Kind.DIRECTORY, Part.FOLDER),
        (b"checkpoint/pages-1.img", Kind.FILE, Part.IMAGE),
        (b"./checkpoint/descriptors.json", Kind.FILE, Part.IMAGE),
        (b"config.dump", Kind.FILE, Part.FILE),
        (b"rootfs-diff.tar", Kind.FILE, Part.FILE),
        (b"dump.log", Kind.FILE, Part.NONE),
        (b"network.status", Kind.FILE, Part.NONE),
        (b"io.kubernetes.cri-o.LogPath", Kind.FILE, Part.NONE),
        (b"volumes", Kind.DIRECTORY, Part.NONE),
        (b"volumes/data.tar", Kind.FILE, Part.NONE),
        (b"artifacts/config.dump", Kind.FILE, Part.NONE),
    ],
)
def test_known_parts_count_and_the_others_are_passed_over(path: bytes, kind: Kind, part: Part) -> None:
    assert part_of(Entry(kind, path)) is part


@pytest.mark.parametrize("kind", [Kind.SYMLINK, Kind.HARD_LINK, Kind.CHARACTER, Kind.BLOCK, Kind.FIFO])
@pytest.mark.parametrize("path", [b"container.log", b"checkpoint/core-1.img", b"config.dump", b"volumes/x"])
def test_nothing_but_plain_files(kind: Kind, path: bytes) -> None:
    with pytest.raises(InvalidInput, match="plain files alone"):
        part_of(Entry(kind, path, b"/etc/shadow"))


@pytest.mark.parametrize("path", [b"../x", b"checkpoint/../x", b"checkpoint/a/b", b"a\0b"])
def test_no_way_out(path: bytes) -> None:
    if path == b"checkpoint/a/b":
        assert part_of(Entry(Kind.FILE, path)) is Part.NONE
        return
    with pytest.raises(InvalidInput):
        part_of(Entry(Kind.FILE, path))


def test_names_of_crius() -> None:
    assert all(map(is_image_name, (b"core-1.img", b"pages-1.img", b"tmpfs-dev-54.tar.gz.img", b"descriptors.json")))
    assert not any(map(is_image_name, (b"", b".", b"..", b".x", b"a b", b"a/b", b"\xff", b"x" * 256)))


def test_compression_is_told_by_the_first_bytes() -> None:
    assert (form_of(b"\x1f\x8b\x08"), form_of(b"\x28\xb5\x2f\xfd"), form_of(b"conf")) == ("gzip", "zstd", "")


def test_deleted_paths_stay_in_the_root() -> None:
    assert deleted_paths(b'["/etc/x", "a/./b"]') == [b"/etc/x", b"a/./b"]
    assert deleted_paths(b"") == []
    for text in (b'["/"]', b'["."]', b'["../x"]', b'["/a/../../b"]', b"[1]", b"{}", b"nonsense"):
        with pytest.raises(InvalidInput):
            deleted_paths(text)
