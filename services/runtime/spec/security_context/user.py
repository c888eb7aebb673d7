"""The user of a container's process: `process.user` (config.md, User). Pure.

It comes from run_as_user, run_as_username, run_as_group and supplemental_groups of linux.security_context, from the
image's `User`, and from the image's passwd and group files. Rules kept: a number is ASCII digits from 0 to 2^31-1 and
is never looked up as a name; anything else must be a name in the image's files. The primary group is always one of
the supplemental ones, as with other runtimes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kernel.contracts.runtime import CreateRequest, Security
from kernel.errors import InvalidInput

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@\\-]*\$?", re.ASCII)
_MOST = 2**31 - 1
_FILE_LIMIT = 10 << 20
"""Bytes of a passwd or group file."""
_GROUPS_LIMIT = 65536
"""NGROUPS_MAX of the kernel."""
_CONTEXT = "linux.security_context"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The ids of a container's process."""

    uid: int
    gid: int
    supplemental_groups: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """A line of a passwd file (passwd(5)); without a name if the file has none for the uid."""

    name: str
    uid: int
    gid: int


def resolve(request: CreateRequest) -> User:
    """Return the user that a request names; InvalidInput names the field that is wrong."""
    security = request.security
    _check(security, request)
    text, field = _requested(request)
    user, _, group = text.partition(":")
    accounts = _accounts(request.passwd)
    account = _account(user, field, accounts)
    if security.run_as_group is not None:
        gid = security.run_as_group
    elif group:
        gid = _group(group, field, request.group)
    else:
        gid = account.gid
    groups = [gid]
    if security.supplemental_groups_policy == "merge" and account.name:
        groups += _memberships(account.name, request.group)
    groups += security.supplemental_groups
    return User(uid=account.uid, gid=gid, supplemental_groups=tuple(dict.fromkeys(groups)))


def _check(security: Security, request: CreateRequest) -> None:
    for name, value in (("run_as_user", security.run_as_user), ("run_as_group", security.run_as_group)):
        if value is not None and not 0 <= value <= _MOST:
            raise InvalidInput(f"{_CONTEXT}.{name}: {value} is not between 0 and {_MOST}")
    if security.run_as_group is not None and security.run_as_user is None and not security.run_as_username:
        raise InvalidInput(f"{_CONTEXT}.run_as_group: needs run_as_user or run_as_username beside it")
    if len(security.supplemental_groups) > _GROUPS_LIMIT:
        raise InvalidInput(f"{_CONTEXT}.supplemental_groups: more than {_GROUPS_LIMIT}")
    for index, value in enumerate(security.supplemental_groups):
        if not 0 <= value <= _MOST:
            raise InvalidInput(f"{_CONTEXT}.supplemental_groups[{index}]: {value} is not between 0 and {_MOST}")
    for name, content in (("passwd", request.passwd), ("group", request.group)):
        if len(content) > _FILE_LIMIT:
            raise InvalidInput(f"image {request.image_name}: /etc/{name} is larger than {_FILE_LIMIT} bytes")


def _requested(request: CreateRequest) -> tuple[str, str]:
    """Return the user as given, and the request's or image's field that it comes from (for errors)."""
    if request.security.run_as_username:
        return request.security.run_as_username, f"{_CONTEXT}.run_as_username"
    if request.security.run_as_user is not None:
        return str(request.security.run_as_user), f"{_CONTEXT}.run_as_user"
    return request.image.user or "0", f"image {request.image_name}: User"


def _account(user: str, field: str, accounts: list[_Account]) -> _Account:
    uid = _number(user or "0", field)
    if uid is not None:
        return next((known for known in accounts if known.uid == uid), _Account(name="", uid=uid, gid=0))
    found = next((known for known in accounts if known.name == user), None)
    if found is None:
        raise InvalidInput(f"{field}: the image's /etc/passwd has no user {user!r}")
    return found


def _group(name: str, field: str, content: bytes) -> int:
    gid = _number(name, field)
    if gid is not None:
        return gid
    found = next((gid for known, gid, _ in _groups(content) if known == name), None)
    if found is None:
        raise InvalidInput(f"{field}: the image's /etc/group has no group {name!r}")
    return found


def _number(text: str, field: str) -> int | None:
    """Return the id that `text` is; None if it is a name."""
    if _DIGITS.fullmatch(text):
        if len(text) > 10 or int(text) > _MOST:
            raise InvalidInput(f"{field}: {text[:20]} is not between 0 and {_MOST}")
        return int(text)
    if not _NAME.fullmatch(text):
        raise InvalidInput(f"{field}: {text[:64]!r} is neither a number nor a name")
    return None


def _memberships(name: str, content: bytes) -> list[int]:
    return [gid for _, gid, members in _groups(content) if name in members]


def _accounts(content: bytes) -> list[_Account]:
    found = []
    for fields in _records(content, 4):
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is not None and gid is not None:
            found.append(_Account(name=fields[0], uid=uid, gid=gid))
    return found


def _groups(content: bytes) -> list[tuple[str, int, list[str]]]:
    found = []
    for fields in _records(content, 3):
        gid = _id(fields[2])
        if gid is not None:
            found.append((fields[0], gid, fields[3].split(",") if len(fields) > 3 else []))
    return found


def _records(content: bytes, least: int) -> list[list[str]]:
    """Return the lines that have at least `least` fields. Other lines of an image's file are ignored, as libc does."""
    lines = (line.strip() for line in content.decode(errors="replace").split("\n"))
    records = (line.split(":") for line in lines if line and not line.startswith("#"))
    return [record for record in records if len(record) >= least]


def _id(text: str) -> int | None:
    return int(text) if _DIGITS.fullmatch(text) and len(text) <= 10 and int(text) <= _MOST else None
