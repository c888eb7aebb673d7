"""The kinds of a tar's entries, and the headers of tars that crisp writes: ustar, preceded by a PAX header if one is
needed.

Pure. The headers are for archives of checkpoints: storage writes the container's files, the runtime worker the dump of
CRIU and the archive of both. POSIX.1-2017 `pax`, section "pax Interchange Format"; extended attributes are written as
`SCHILY.xattr.NAME`, which all readers know.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

BLOCK = 512
END = bytes(2 * BLOCK)
"""The end of an archive."""
_MOST_OCTAL = 0o7777777
"""The largest owner, or device number, that fits a header."""
_MOST_SIZE = 0o77777777777


class Kind(enum.Enum):
    """The kind of an entry; its value names it in error messages."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    DIRECTORY = "directory"
    FIFO = "fifo"


FLAGS: dict[Kind, bytes] = {
    Kind.FILE: b"0",
    Kind.HARD_LINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHARACTER: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
"""The type flag of each kind, as POSIX defines it. Readers know two more flags for a file."""


def header(
    path: bytes,
    kind: Kind = Kind.FILE,
    *,
    size: int = 0,
    mode: int = 0o600,
    uid: int = 0,
    gid: int = 0,
    mtime_ns: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """Return the blocks before an entry's data. `path` is relative and has no slash at its end."""
    name = path + b"/" if kind is Kind.DIRECTORY else path
    seconds, rest = divmod(max(mtime_ns, 0), 1_000_000_000)
    records: list[tuple[bytes, bytes]] = []
    if len(name) > 100:
        records.append((b"path", name))
    if len(link) > 100:
        records.append((b"linkpath", link))
    records += [(key, b"%d" % value) for key, value in ((b"uid", uid), (b"gid", gid)) if value > _MOST_OCTAL]
    if size > _MOST_SIZE:
        records.append((b"size", b"%d" % size))
    if rest or seconds > _MOST_SIZE:
        records.append((b"mtime", b"%d.%09d" % (seconds, rest)))
    records += [(b"SCHILY.xattr." + key, value) for key, value in xattrs]
    pax = b"".join(_record(key, value) for key, value in records)
    before = _block(b"PaxHeader", b"x", len(pax), 0o600) + pax + padding(len(pax)) if pax else b""
    return before + _block(
        name[:100], FLAGS[kind], size if size <= _MOST_SIZE else 0, mode & 0o7777,
        uid if uid <= _MOST_OCTAL else 0, gid if gid <= _MOST_OCTAL else 0,
        seconds if seconds <= _MOST_SIZE else 0, link[:100], device,
    )  # fmt: skip


def padding(size: int) -> bytes:
    """Return the zeros between `size` bytes of data and the next header."""
    return bytes(-size % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """Return `length key=value newline`; the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(b"%d" % rest)
    length = rest + len(b"%d" % length)
    return b"%d %s=%s\n" % (length, key, value)


def _block(
    name: bytes, flag: bytes, size: int, mode: int, uid: int = 0, gid: int = 0, mtime: int = 0, link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:  # fmt: skip
    fields = [
        name.ljust(100, b"\0"), b"%07o\0" % mode, b"%07o\0" % uid, b"%07o\0" % gid, b"%011o\0" % size,
        b"%011o\0" % mtime, b" " * 8, flag, link.ljust(100, b"\0"), b"ustar\x0000", bytes(64),
        b"%07o\0" % device[0], b"%07o\0" % device[1],
    ]  # fmt: skip
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
