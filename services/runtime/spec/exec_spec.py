"""The `process` of a command in a running container (ExecSync, Exec): the container's own with other words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kernel.contracts.oci import IdMap
from kernel.errors import InvalidInput

_ARGUMENTS_LIMIT = 2 << 20
"""Bytes of all words. With the usual stack of 8 MiB the kernel has the same limit (execve(2))."""
_TERM = "TERM=xterm"


class _User(msgspec.Struct):
    """`process.user` (config.md, User)."""

    uid: int = 0
    gid: int = 0


class _ProcessUser(msgspec.Struct):
    """`process`, of which only the user is read."""

    user: _User = msgspec.field(default_factory=_User)


class _UserSpec(msgspec.Struct):
    """config.json, of which only the process's user is read."""

    process: _ProcessUser


class _ProcessSpec(msgspec.Struct):
    """config.json, of which only the process is read."""

    process: dict[str, object]


def check(cmd: tuple[str, ...]) -> None:
    """Raise InvalidInput for words that cannot be a command (ExecSyncRequest.cmd, ExecRequest.cmd)."""
    if not cmd or not cmd[0]:
        raise InvalidInput("cmd: is empty")
    check_words("cmd", cmd)


def check_words(field: str, words: Sequence[str]) -> None:
    """Raise InvalidInput, which names the field, for words that no process can get."""
    if any("\0" in word for word in words):
        raise InvalidInput(f"{field}: contains a NUL byte")
    if sum(len(word) for word in words) > _ARGUMENTS_LIMIT:
        raise InvalidInput(f"{field}: is longer than {_ARGUMENTS_LIMIT} bytes")


def process(config: bytes, cmd: tuple[str, ...], *, tty: bool = False, size: tuple[int, int] = (0, 0)) -> bytes:
    """Return the process, as JSON, for a command in the container that has this config.json.

    `tty`: whether it has a terminal. `size`: the terminal's width and height in characters; zeros if unknown.
    msgspec.DecodeError if the configuration cannot be read.
    """
    container = msgspec.json.decode(config, type=_ProcessSpec).process
    section = {**container, "args": list(cmd), "terminal": tty}
    section.pop("consoleSize", None)
    if tty:
        env = section.get("env")
        env = list(env) if isinstance(env, list) else []
        if not any(str(entry).startswith("TERM=") for entry in env):
            env.append(_TERM)
        section["env"] = env
        if all(size):
            section["consoleSize"] = {"width": size[0], "height": size[1]}
    return msgspec.json.encode(section)


def owner(config: bytes, ids: IdMap | None) -> tuple[int, int]:
    """Return user and group of the process by their ids on the host: they own the pipes of its input and output.

    `ids`: the map of the pod's user namespace; None if it has none.
    """
    user = msgspec.json.decode(config, type=_UserSpec).process.user
    root = ids.root if ids is not None else (0, 0)
    return user.uid + root[0], user.gid + root[1]
