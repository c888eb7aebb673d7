"""The process of a command in a running container: the container's own specification with other words. Pure."""

from __future__ import annotations

import msgspec

from kernel.contracts.oci import IdMap
from kernel.errors import InvalidInput

_ARGUMENTS_LIMIT = 2 << 20
_TERM = "TERM=xterm"


class _User(msgspec.Struct):
    uid: int = 0
    gid: int = 0


class _Process(msgspec.Struct):
    user: _User = msgspec.field(default_factory=_User)


class _Whose(msgspec.Struct):
    process: _Process


class _Spec(msgspec.Struct):
    process: dict[str, object]


def check(cmd: tuple[str, ...]) -> None:
    """InvalidInput for words that no command has."""
    if not cmd or not cmd[0]:
        raise InvalidInput("cmd: is empty")
    if any("\0" in word for word in cmd):
        raise InvalidInput("cmd: contains a NUL byte")
    if sum(len(word) for word in cmd) > _ARGUMENTS_LIMIT:
        raise InvalidInput(f"cmd: is longer than {_ARGUMENTS_LIMIT} bytes")


def process(config: bytes, cmd: tuple[str, ...], *, tty: bool = False, size: tuple[int, int] = (0, 0)) -> bytes:
    """The process for a container's `config.json`, with a terminal (width and height, where known) or without.

    msgspec.DecodeError where the configuration does not read.
    """
    said = msgspec.json.decode(config, type=_Spec).process
    said = {**said, "args": list(cmd), "terminal": tty}
    said.pop("consoleSize", None)
    if tty:
        env = said.get("env")
        env = list(env) if isinstance(env, list) else []
        if not any(str(entry).startswith("TERM=") for entry in env):
            env.append(_TERM)
        said["env"] = env
        if all(size):
            said["consoleSize"] = {"width": size[0], "height": size[1]}
    return msgspec.json.encode(said)


def owner(config: bytes, ids: IdMap | None) -> tuple[int, int]:
    """User and group of the process as the host sees them: whom the pipes of its input and output belong to."""
    user = msgspec.json.decode(config, type=_Whose).process.user
    above = ids.root if ids is not None else (0, 0)
    return user.uid + above[0], user.gid + above[1]
