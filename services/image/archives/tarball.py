"""The tar file of an image archive: its members by name, each as a range of the file.

Accepted is strict ustar with PAX and GNU long names, uncompressed. Nothing is ever written under a member's name: names
are keys of a table. Sparse files, devices and the like are rejected; global headers, which could rename members, are
ignored. Limits bound memory and time. Blocks; runs in a thread of the worker's pool.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from kernel.errors import InvalidInput

_BLOCK = 512
_ENTRIES = 100_000
_EXTENSION_LIMIT = 1 << 20
_NAME_LIMIT = 4096
_LINKS = 8
_CHUNK = 256 << 10
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in the archive."""

    offset: int
    size: int


class Tarball:
    """An open archive and the table of its members."""

    def __init__(self, fd: int, name: str) -> None:
        """`name`: the archive's, for errors. InvalidInput unless it is a tar file as described above."""
        self._fd = fd
        self._name = name
        self._members: dict[str, Member] = {}
        self._links: dict[str, str] = {}
        self._index()

    def find(self, path: str) -> Member | None:
        """Return the member at a path, following links within the archive; None if there is none."""
        wanted = _normal(path)
        for _ in range(_LINKS):
            if wanted is None or wanted in self._members:
                break
            wanted = self._links.get(wanted)
        return None if wanted is None else self._members.get(wanted)

    def read(self, path: str, limit: int) -> bytes:
        """Return a whole member. InvalidInput if it is larger than `limit` bytes or there is none."""
        member = self.find(path)
        if member is None:
            raise InvalidInput(f"{self._name}: has no file {path[:200]!a}")
        if member.size > limit:
            raise InvalidInput(f"{self._name}: {path[:200]!a} is larger than {limit} bytes")
        return b"".join(self.chunks(member))

    def chunks(self, member: Member) -> Iterator[bytes]:
        """Yield a member's bytes in pieces."""
        at, end = member.offset, member.offset + member.size
        while at < end:
            chunk = os.pread(self._fd, min(_CHUNK, end - at), at)
            if not chunk:
                raise InvalidInput(f"{self._name}: was cut short while it was read")
            at += len(chunk)
            yield chunk

    def _index(self) -> None:
        end, at, entries = os.fstat(self._fd).st_size, 0, 0
        extended: dict[str, bytes] = {}
        while True:
            header = os.pread(self._fd, _BLOCK, at)
            if not header.strip(b"\0"):
                if len(header) not in (0, _BLOCK) or not entries:
                    raise self._bad("ends within a header" if entries else "is empty")
                return
            if len(header) < _BLOCK:
                raise self._bad("is no tar file, or ends within a header")
            entries += 1
            if entries > _ENTRIES:
                raise self._bad(f"has more than {_ENTRIES} entries")
            self._check_sum(header)
            kind, size = header[156:157], self._number(header[124:136])
            if "size" in extended:
                size = self._decimal(extended["size"])
            if size < 0:
                raise self._bad("has an entry whose size is no number")
            at += _BLOCK
            if at + size > end and kind not in (b"1", b"2"):
                raise self._bad("ends within a file")
            match kind:
                case b"x" | b"L" | b"K":
                    if size > _EXTENSION_LIMIT:
                        raise self._bad("has an extended header of more than 1 MiB")
                    data = os.pread(self._fd, size, at)
                    extended |= self._records(data) if kind == b"x" else _long(kind, data)
                case b"g":
                    if size > _EXTENSION_LIMIT:
                        raise self._bad("has an extended header of more than 1 MiB")
                case _:
                    size = self._enter(header, kind, Member(at, size), extended)
                    extended = {}
            at += -(-size // _BLOCK) * _BLOCK

    def _enter(self, header: bytes, kind: bytes, member: Member, extended: dict[str, bytes]) -> int:
        """Put an entry into the table; return the number of bytes that its content takes in the file."""
        if any(key.startswith("GNU.sparse") for key in extended) or kind == b"S":
            raise self._bad("has a sparse file")
        prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
        short = header[:100].split(b"\0")[0]
        name = self._text(extended.get("path", prefix + b"/" + short if prefix else short))
        target = self._text(extended.get("linkpath", header[157:257].split(b"\0")[0]))
        key = _normal(name)
        if kind in (b"\0", b"0", b"7"):
            if key is None:
                raise self._bad(f"has a file with the name {name[:200]!a}")
            self._links.pop(key, None)
            self._members[key] = member
            return member.size
        if kind in (b"1", b"2") and key is not None:
            to = _normal(posixpath.join(posixpath.dirname(key), target) if kind == b"2" else target)
            if to is not None:
                self._members.pop(key, None)
                self._links[key] = to
            return 0
        if kind == b"5":
            return 0
        raise self._bad(f"has an entry {name[:200]!a} of type {kind!r}")

    def _check_sum(self, header: bytes) -> None:
        blank = header[:148] + b" " * 8 + header[156:]
        if self._number(header[148:156]) != sum(blank):
            hint = "decompress it first" if self._compressed() else ""
            raise InvalidInput(f"{self._name}: is no tar file", hint=hint)

    def _number(self, field: bytes) -> int:
        """Return a number of the header, octal or in GNU's base 256; -1 if it is neither."""
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        match = _OCTAL.fullmatch(field)
        return int(match.group(1) or b"0", 8) if match else -1

    def _compressed(self) -> bool:
        return os.pread(self._fd, 4, 0).startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zX"))

    def _decimal(self, text: bytes) -> int:
        if not re.fullmatch(rb"[0-9]{1,19}", text):
            raise self._bad("has a malformed size in an extended header")
        return int(text)

    def _records(self, data: bytes) -> dict[str, bytes]:
        """Return the records of a PAX header, each `LENGTH KEY=VALUE\\n` (pax(1))."""
        found: dict[str, bytes] = {}
        while data:
            match = _RECORD.match(data)
            length = int(match.group(1)) if match else 0
            key, equals, value = data[match.end() if match else 0 : length - 1].partition(b"=")
            if not match or length > len(data) or data[length - 1 : length] != b"\n" or not equals or not key:
                raise self._bad("has a malformed extended header")
            found[key.decode("utf-8", "replace")] = value
            data = data[length:]
        return found

    def _text(self, name: bytes) -> str:
        if len(name) > _NAME_LIMIT or b"\0" in name:
            raise self._bad("has a malformed name")
        return name.decode("utf-8", "surrogateescape")

    def _bad(self, reason: str) -> InvalidInput:
        return InvalidInput(f"{self._name}: {reason}")


def _long(kind: bytes, data: bytes) -> dict[str, bytes]:
    return {"path" if kind == b"L" else "linkpath": data.split(b"\0")[0]}


def _normal(path: str) -> str | None:
    """Return a member's name as a key, without `.` and `..`; None if it leads out of the archive or nowhere."""
    found = posixpath.normpath(path)
    if not path or found.startswith(("/", "../")) or found in ("..", "."):
        return None
    return found
