"""Checks of single values of a request. Pure.

Each check takes the path of the field (`config.hostname`) and its value, returns the value, and raises InvalidInput
with the path and the reason if the value is wrong. A value in a message is cut to 80 characters.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NoReturn

from kernel.errors import InvalidInput

MAX_ID = (1 << 31) - 1
"""The largest user or group id that Kubernetes accepts."""
MAX_GROUPS = 65536
"""The most supplementary groups of a process: NGROUPS_MAX of limits.h."""
MAX_TEXT = 4096
"""Characters of a text that has no limit of its own: as many as the bytes of PATH_MAX."""
MAX_MAP = 1 << 20
"""Characters of all labels, or of all annotations, of one object: four times what the API server accepts in bytes."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)
_CPUSET = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", re.ASCII)


def refuse(field: str, reason: str, hint: str = "") -> NoReturn:
    """Raise InvalidInput for a field."""
    raise InvalidInput(f"{field}: {reason}", hint=hint)


def text(field: str, value: str, *, limit: int = MAX_TEXT, forbidden: str = "") -> str:
    """Check a text of one line, at most `limit` characters, without control characters and those in `forbidden`."""
    if len(value) > limit:
        refuse(field, f"is longer than {limit} characters")
    if _CONTROL.search(value):
        refuse(field, f"{value[:80]!r} has a control character")
    for character in forbidden:
        if character in value:
            refuse(field, f"{value[:80]!r} has {character!r} in it")
    return value


def name(field: str, value: str) -> str:
    """Check a name that may become one element of a path or of a cgroup's name."""
    if not value:
        refuse(field, "is missing")
    if value in {".", ".."}:
        refuse(field, f"{value!r} is no name")
    return text(field, value, limit=253, forbidden="/")


def word(field: str, value: str) -> str:
    """Check a word of a configuration file that is split at white space."""
    if not value:
        refuse(field, "is empty")
    if len(value.split()) != 1:
        refuse(field, f"{value[:80]!r} has white space in it")
    return text(field, value, limit=253)


def integer(field: str, value: int, low: int, high: int) -> int:
    """Check that a number is in the range; both ends belong to it."""
    if not low <= value <= high:
        refuse(field, f"{value} is not between {low} and {high}")
    return value


def path(field: str, value: str) -> str:
    """Check an absolute path without `..`."""
    if not value:
        refuse(field, "is empty")
    text(field, value)
    if not value.startswith("/"):
        refuse(field, f"{value!r} is not absolute")
    if ".." in value.split("/"):
        refuse(field, f"{value!r} has '..' in it")
    return value


def relative_path(field: str, value: str) -> str:
    """Check a relative path of a file that stays below its folder. It may be empty."""
    text(field, value)
    if value.startswith("/"):
        refuse(field, f"{value!r} is absolute")
    if ".." in value.split("/"):
        refuse(field, f"{value!r} has '..' in it")
    if value.endswith("/"):
        refuse(field, f"{value!r} names a folder")
    return value


def hostname(field: str, value: str) -> str:
    """Check a host name, which the kernel limits to 64 characters (sethostname(2)). It may be empty."""
    if value and not _HOSTNAME.fullmatch(value):
        refuse(field, f"{value[:80]!r} is not a host name of 64 characters at most")
    return value


def address(field: str, value: str) -> str:
    """Return an IP address in its shortest spelling. It may be empty."""
    try:
        return str(ipaddress.ip_address(value)) if value else ""
    except ValueError:
        refuse(field, f"{value[:80]!r} is not an IP address")


def cpuset(field: str, value: str) -> str:
    """Check a list of CPUs or memory nodes in the format of cpuset(7): `0-3,7`. It may be empty."""
    if value and not _CPUSET.fullmatch(value[:MAX_TEXT]):
        refuse(field, f"{value[:80]!r} is not a list such as '0-3,7'")
    for part in value.split(",") if value else ():
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            refuse(field, f"{part!r} is a range that ends before it begins")
    return value


def strings(field: str, values: Mapping[str, str]) -> dict[str, str]:
    """Check the size of labels or annotations; their text may be anything."""
    sizes = accumulate(len(key) + len(value) for key, value in values.items())
    if any(size > MAX_MAP for size in sizes):  # counting ends at the limit, however many there are
        refuse(field, f"is larger than {MAX_MAP} characters in all")
    return dict(values)


def arguments(field: str, values: Iterable[str]) -> tuple[str, ...]:
    """Check the words of a command line: anything but NUL, 2 MiB in all."""
    words = tuple(values)
    for index, value in enumerate(words):
        if "\0" in value:
            refuse(f"{field}[{index}]", "has a NUL character")
    if sum(len(value) for value in words) > 2 << 20:
        refuse(field, "is larger than 2 MiB")
    return words


def user_id(field: str, value: int) -> int:
    """Check a user or group id."""
    return integer(field, value, 0, MAX_ID)
