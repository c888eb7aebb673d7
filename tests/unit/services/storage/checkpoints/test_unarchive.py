"""What the entries of an archive of a checkpoint are for."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from kernel.formats.tar_header import Kind
from services.storage.checkpoints.unarchive import Part, part_of
from services.storage.tar.reader import Entry


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
