"""A strict reader of layer tars: ustar, PAX and GNU long names. Pure: its bytes come from a `Source`.

Used by the children that unpack and check, on hostile bytes. So it has one meaning for every header and refuses all
that readers are known to disagree on: sparse files, sizes on entries that carry no data, PAX records that do not add
up, global headers that change entries, unknown type flags. Every refusal is InvalidInput and names the entry.
References: POSIX.1-2017 `pax`, section "pax Interchange Format"; image-spec, layer.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

from kernel.errors import InvalidInput
from kernel.formats.tar_header import FLAGS, Kind

BLOCK = 512
MAX_PAX = 1 << 20
"""Most bytes of extended headers for one entry."""
MAX_LONG = 8192
"""Most bytes of a GNU long name."""
MAX_ID = 0xFFFFFFFE
"""The largest uid or gid; the next one means "unchanged" to chown(2)."""
MAX_TIME = (1 << 34) - 1
"""Latest time of a file, in seconds; ext4 keeps no later one."""

_ZERO = bytes(BLOCK)
_DIGITS = re.compile(rb"[0-9]{1,20}")
_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")
_XATTR = b"SCHILY.xattr."
_OF_ONE_ENTRY = frozenset({b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"})


_KINDS = {flag: kind for kind, flag in FLAGS.items()} | {b"\0": Kind.FILE, b"7": Kind.FILE}
"""Besides the flags that POSIX has: a file before ustar, and a file that should be contiguous."""


class Entry(NamedTuple):
    """One entry as the tar has it; nothing in it is checked against the file system's rules yet."""

    kind: Kind
    path: bytes
    link: bytes = b""
    size: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class Source(Protocol):
    """The source of a tar's bytes."""

    @property
    def offset(self) -> int:
        """Number of bytes returned or passed over so far."""

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes; fewer only at the end."""

    def skip(self, count: int) -> None:
        """Pass over the next `count` bytes; a CrispError if there are fewer."""


class Extended:
    """The extended headers read so far for the next entry."""

    __slots__ = ("long_link", "long_path", "pax")

    def __init__(self) -> None:
        self.pax: dict[bytes, bytes] = {}
        self.long_path: bytes | None = None
        self.long_link: bytes | None = None

    def pending(self) -> bool:
        """Return whether there is any: then an entry must follow."""
        return bool(self.pax) or self.long_path is not None or self.long_link is not None


def entries(source: Source) -> Iterator[Entry]:
    """Yield the entries in order. The caller takes what it needs of an entry's data; the rest is passed over."""
    extended = Extended()
    while True:
        block = source.take(BLOCK)
        if not block or block == _ZERO:
            _end(source, block, extended)
            return
        if len(block) < BLOCK:
            raise InvalidInput("tar is cut off within a header")
        _verify_checksum(block, source.offset)
        flag = block[156:157]
        if flag in b"xgLK":
            _extend(extended, flag, block, source)
            continue
        entry = parse_entry(block, extended)
        extended = Extended()
        end = source.offset + _padded(entry.size)
        yield entry
        source.skip(end - source.offset)


def _end(source: Source, block: bytes, extended: Extended) -> None:
    """Check the end: two blocks of zeros, or one if the archive stops there, or no further header at all."""
    if extended.pending():
        raise InvalidInput("tar ends after an extended header without an entry")
    if block:
        second = source.take(BLOCK)
        if second and second != _ZERO[: len(second)]:
            raise InvalidInput(f"tar has a lone block of zeros before byte {source.offset}")


def _extend(extended: Extended, flag: bytes, block: bytes, source: Source) -> None:
    size = _number(block[124:136])
    if not 0 <= size <= (MAX_PAX if flag in b"xg" else MAX_LONG):
        raise InvalidInput(f"tar has an extended header of {size} bytes before byte {source.offset}")
    data = source.take(size)
    if len(data) < size:
        raise InvalidInput("tar is cut off within an extended header")
    source.skip(_padded(size) - size)
    if flag == b"x":
        if extended.pax:
            raise InvalidInput(f"tar has two PAX headers for one entry before byte {source.offset}")
        extended.pax = parse_pax(data)
    elif flag == b"g":
        keys = parse_pax(data).keys()
        if any(key in _OF_ONE_ENTRY or key.startswith((_XATTR, b"GNU.sparse.")) for key in keys):
            raise InvalidInput(f"tar has a global header that changes entries before byte {source.offset}")
    else:
        text = data.split(b"\0", 1)[0]
        if flag == b"L":
            extended.long_path = text
        else:
            extended.long_link = text


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Return the records of a PAX header, `length key=value newline` each; of two with one key the last counts."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 9)
        digits = data[position:space] if space > 0 else b""
        end = position + int(digits) if _DIGITS.fullmatch(digits) else 0
        if not space + 1 < end <= len(data) or data[end - 1] != 0x0A:
            raise InvalidInput(f"tar has a PAX record that does not add up: {data[position : position + 40]!r}")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not key or not equals or b"\0" in key:
            raise InvalidInput(f"tar has a PAX record without a key: {data[position : position + 40]!r}")
        records[key] = value
        position = end
    return records


def parse_entry(block: bytes, extended: Extended) -> Entry:
    """Return the entry of a header and of the extended headers before it."""
    path, link = _names(block, extended)
    kind = _KINDS.get(block[156:157])
    if kind is None:
        raise InvalidInput(f"tar entry {path!r} is of unknown type {block[156:157]!r}")
    if block[156] == 0 and path.endswith(b"/"):
        kind = Kind.DIRECTORY  # before ustar a directory was marked by its name alone
    size = _number(block[124:136])
    uid = _number(block[108:116])
    gid = _number(block[116:124])
    mtime_ns = _number(block[136:148]) * 1_000_000_000
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    if pax := extended.pax:
        size = _decimal(pax, b"size", size, path)
        uid = _decimal(pax, b"uid", uid, path)
        gid = _decimal(pax, b"gid", gid, path)
        if b"mtime" in pax:
            mtime_ns = _time(pax[b"mtime"], path)
        xattrs = tuple((key[len(_XATTR) :], value) for key, value in pax.items() if key.startswith(_XATTR))
        if any(key.startswith(b"GNU.sparse.") for key in pax):
            raise InvalidInput(f"tar entry {path!r} is sparse, which is not supported")
    if kind is not Kind.FILE and size:
        raise InvalidInput(f"tar entry {path!r} is a {kind.value} with {size} bytes of data")
    if not 0 <= size < 1 << 62:
        raise InvalidInput(f"tar entry {path!r} has the impossible size {size}")
    if not (0 <= uid <= MAX_ID and 0 <= gid <= MAX_ID):
        raise InvalidInput(f"tar entry {path!r} has the impossible owner {uid}:{gid}")
    major = minor = 0
    if kind in (Kind.CHARACTER, Kind.BLOCK):
        major, minor = _number(block[329:337]), _number(block[337:345])
    return Entry(
        kind, path, link, size, _number(block[100:108]) & 0o7777, uid, gid,
        min(max(mtime_ns, 0), MAX_TIME * 1_000_000_000), major, minor, xattrs,
    )  # fmt: skip


def _names(block: bytes, extended: Extended) -> tuple[bytes, bytes]:
    path = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and block[345]:
        path = block[345:500].split(b"\0", 1)[0] + b"/" + path
    link = block[157:257].split(b"\0", 1)[0]
    if extended.long_path is not None:
        path = extended.long_path
    if extended.long_link is not None:
        link = extended.long_link
    if pax := extended.pax:
        path = pax.get(b"path", path)
        link = pax.get(b"linkpath", link)
        if b"\0" in path or b"\0" in link:
            raise InvalidInput(f"tar entry {path!r} has a zero byte in its name or target")
    if not path:
        raise InvalidInput("tar has an entry with an empty name")
    return path, link


def _verify_checksum(block: bytes, offset: int) -> None:
    given = _number(block[148:156])
    unsigned = sum(block) - sum(block[148:156]) + 8 * 0x20
    if given == unsigned:
        return
    # Some old writers summed signed bytes.
    if given != unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        raise InvalidInput(f"tar has a damaged header before byte {offset}")


@lru_cache(maxsize=4096)  # the same modes, owners and times again and again
def _number(field: bytes) -> int:
    """Return a number of a header: octal text, or base 256 if the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ~(1 << (8 * len(field) - 1))
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    try:
        if text.isdigit():
            return int(text, 8)
    except ValueError:  # an 8 or a 9: refused below with the rest
        pass
    raise InvalidInput(f"tar has a header with a number that is not octal: {field!r}")


def _decimal(pax: dict[bytes, bytes], key: bytes, default: int, path: bytes) -> int:
    text = pax.get(key)
    if text is None:
        return default
    if not _DIGITS.fullmatch(text):
        raise InvalidInput(f"tar entry {path!r} has the malformed PAX {key.decode()} {text[:40]!r}")
    return int(text)


def _time(text: bytes, path: bytes) -> int:
    match = _TIME.fullmatch(text)
    if not match:
        raise InvalidInput(f"tar entry {path!r} has the malformed PAX mtime {text[:40]!r}")
    sign, seconds, fraction = match.groups()
    nanoseconds = int(seconds) * 1_000_000_000 + int((fraction or b"")[:9].ljust(9, b"0"))
    return -nanoseconds if sign else nanoseconds


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
