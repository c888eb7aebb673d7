"""The image configuration (OCI image-spec, config.md): parsed from the bytes that a registry sent. Pure.

The image worker is not trusted, so the front parses by itself and keeps a small normal form: every field that is
used is checked here, everything else is dropped. Errors are InvalidInput or FailedPrecondition and name the field.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import signal
from dataclasses import dataclass
from typing import TypeAlias, cast

from kernel.contracts.oci import ImageConfig
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.formats import strict_json
from kernel.ids import DiffId, Digest, ImageId, digest

MAX_BYTES = 4 << 20
"""Bytes of a configuration."""
MAX_LAYERS = 500
_MAX_ID = 2**31 - 1
_MAX_STRING = 128 << 10
"""Bytes of a string: the kernel's MAX_ARG_STRLEN, above which execve(2) refuses an argument or variable."""
_MAX_LABELS_BYTES = 1 << 20
_MAX_ITEMS = 4096
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@\\-]{0,254}\$?", re.ASCII)
_PROC = re.compile(r"/+proc(?:/|$)")
_REAL_TIME = re.compile(r"SIGRT(?:MIN\+([0-9]{1,2})|MAX-([0-9]{1,2})|MIN|MAX)", re.ASCII)

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_TOP_FIELDS = frozenset({"architecture", "os", "config", "rootfs"})
_CONFIG_FIELDS = frozenset(
    {"User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Volumes", "StopSignal", "Labels"}
)  # fmt: skip
_ROOTFS_FIELDS = frozenset({"type", "diff_ids"})


@dataclass(frozen=True, slots=True)
class Parsed:
    """The parts of an image configuration that are kept."""

    id: ImageId
    config: ImageConfig
    diff_ids: tuple[DiffId, ...]
    """Lowest first, one for each layer of the manifest; a diff id may appear more than once."""


def image_id(config: bytes) -> ImageId:
    """Return the id of an image: the digest of its configuration's bytes."""
    return ImageId(Digest(f"sha256:{hashlib.sha256(config).hexdigest()}"))


def parse(config: bytes, layers: int) -> Parsed:
    """Check the configuration of an image with `layers` layers, and return what containers need of it.

    Raise FailedPrecondition for an image of another operating system, InvalidInput for anything malformed.
    """
    if len(config) > MAX_BYTES:
        raise InvalidInput(f"image configuration is {len(config)} bytes long, more than {MAX_BYTES}")
    if layers > MAX_LAYERS:
        raise InvalidInput(f"image has {layers} layers, more than {MAX_LAYERS}")
    top = _object(_decode(config), "configuration")
    _refuse_other_case(top, _TOP_FIELDS, "configuration")
    system = _string(top, "os", "os")
    if system not in {"", "linux"}:
        raise FailedPrecondition(f"image is made for operating system {system!r}, not for linux")
    _string(top, "architecture", "architecture")
    diff_ids = _diff_ids(_object(top.get("rootfs"), "rootfs"))
    if len(diff_ids) != layers:
        raise InvalidInput(f"image configuration has {len(diff_ids)} diff_ids for {layers} layers")
    inner = top.get("config")
    return Parsed(image_id(config), _image_config({} if inner is None else _object(inner, "config")), diff_ids)


def distinct(diff_ids: tuple[DiffId, ...]) -> tuple[DiffId, ...]:
    """Return the layers to stack, lowest first. If one comes twice only the upper is kept: it hides the other."""
    return tuple(reversed(dict.fromkeys(reversed(diff_ids))))


def user_of(user: str) -> tuple[int | None, str]:
    """Return the uid, or else the user's name, of config.User; (None, "") if it is empty."""
    name = user.partition(":")[0]
    return (int(name), "") if _NUMBER.fullmatch(name) else (None, name)


def _image_config(config: dict[str, Json]) -> ImageConfig:
    _refuse_other_case(config, _CONFIG_FIELDS, "config")
    env = _strings(config, "Env")
    for item in env:
        if item.find("=") < 1:
            raise InvalidInput(f"image configuration, config.Env: {item[:80]!r} is not NAME=value")
    return ImageConfig(
        user=_user(_string(config, "User", "config.User")),
        env=env,
        entrypoint=_strings(config, "Entrypoint"),
        cmd=_strings(config, "Cmd"),
        working_dir=_working_dir(_string(config, "WorkingDir", "config.WorkingDir")),
        volumes=tuple(_volume(path) for path in sorted(_mapping(config, "Volumes"))),
        stop_signal=_stop_signal(_string(config, "StopSignal", "config.StopSignal")),
        labels=_labels(config),
    )


def _decode(config: bytes) -> Json:
    try:
        return cast("Json", strict_json.loads(config))  # the type only requires JSON; every use checks the value
    except strict_json.NotStrictJson as error:
        raise InvalidInput(f"image configuration: {error}") from error


def _refuse_other_case(found: dict[str, Json], fields: frozenset[str], where: str) -> None:
    """Refuse `user` for `User`: parsers that ignore case would read another configuration than crisp does."""
    lowered = {field.lower(): field for field in fields}
    for key in found:
        field = lowered.get(key.lower())
        if field is not None and field != key:
            raise InvalidInput(f"image configuration, {where}: key {key!r} must be written {field!r}")


def _object(value: Json, where: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise InvalidInput(f"image configuration, {where} is not an object")
    return value


def _mapping(config: dict[str, Json], key: str) -> dict[str, Json]:
    value = config.get(key)
    found = {} if value is None else _object(value, f"config.{key}")
    if len(found) > _MAX_ITEMS:
        raise InvalidInput(f"image configuration, config.{key} has more than {_MAX_ITEMS} entries")
    return {_text(name, f"config.{key}"): item for name, item in found.items()}


def _text(value: Json, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"image configuration, {where} is not a string")
    if "\0" in value:
        raise InvalidInput(f"image configuration, {where} has a NUL byte")
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, as JSON can spell it
        raise InvalidInput(f"image configuration, {where} is not valid Unicode") from error
    if len(encoded) > _MAX_STRING:
        raise InvalidInput(f"image configuration, {where} is longer than {_MAX_STRING} bytes")
    return value


def _string(found: dict[str, Json], key: str, where: str) -> str:
    value = found.get(key)
    return "" if value is None else _text(value, where)


def _strings(config: dict[str, Json], key: str) -> tuple[str, ...]:
    value = config.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidInput(f"image configuration, config.{key} is not a list of strings")
    if len(value) > _MAX_ITEMS:
        raise InvalidInput(f"image configuration, config.{key} has more than {_MAX_ITEMS} entries")
    return tuple(_text(item, f"config.{key}") for item in value)


def _labels(config: dict[str, Json]) -> dict[str, str]:
    labels = {key: _text(value, "config.Labels") for key, value in _mapping(config, "Labels").items()}
    if sum(len(key) + len(value) for key, value in labels.items()) > _MAX_LABELS_BYTES:
        raise InvalidInput(f"image configuration, config.Labels takes more than {_MAX_LABELS_BYTES} bytes")
    return labels


def _user(user: str) -> str:
    """Check config.User: `USER[:GROUP]`, each a name or an id. A number is always an id, never looked up as a name."""
    parts = user.split(":") if user else []
    if len(parts) > 2:
        raise InvalidInput(f"image configuration, config.User: {user[:80]!r} is not user or user:group")
    for part in parts:
        if _NUMBER.fullmatch(part):
            if int(part) > _MAX_ID:
                raise InvalidInput(f"image configuration, config.User: id {part} is more than {_MAX_ID}")
        elif not _NAME.fullmatch(part):
            raise InvalidInput(f"image configuration, config.User: {part[:80]!r} is neither a name nor an id")
    return user


def _working_dir(path: str) -> str:
    """Return config.WorkingDir as an absolute path; a relative one is below the root.

    It must not be below /proc, whose links lead out of the container.
    """
    if not path:
        return ""
    absolute = path if path.startswith("/") else f"/{path}"
    if _PROC.match(posixpath.normpath(absolute)):
        raise InvalidInput(f"image configuration, config.WorkingDir: {path[:80]!r} is below /proc")
    return absolute


def _volume(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/"):
        raise InvalidInput(f"image configuration, config.Volumes: {path[:80]!r} is not an absolute path without '..'")
    return path


def _stop_signal(text: str) -> str:
    """Return config.StopSignal as `SIGTERM` or `SIGRTMIN+3`, from any spelling: a name or a number."""
    if not text:
        return ""
    name = f"SIG{text.upper().removeprefix('SIG')}"
    if name in signal.Signals.__members__:
        return name
    number = int(text) if _NUMBER.fullmatch(text) else _real_time(name)
    if number is not None and 0 < number <= signal.SIGRTMAX:
        if number > signal.SIGRTMIN:
            return f"SIGRTMIN+{number - signal.SIGRTMIN}"
        if number in signal.valid_signals():
            return signal.Signals(number).name
    raise InvalidInput(f"image configuration, config.StopSignal: {text[:80]!r} is not a signal")


def _real_time(name: str) -> int | None:
    match = _REAL_TIME.fullmatch(name)
    if not match:
        return None
    above, below = match.groups()
    number = signal.SIGRTMIN + int(above) if above else signal.SIGRTMAX - int(below or 0)
    return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else None


def _diff_ids(rootfs: dict[str, Json]) -> tuple[DiffId, ...]:
    _refuse_other_case(rootfs, _ROOTFS_FIELDS, "rootfs")
    kind = _string(rootfs, "type", "rootfs.type")
    if kind != "layers":
        raise InvalidInput(f"image configuration, rootfs.type is {kind[:80]!r}, not 'layers'")
    value = rootfs.get("diff_ids")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidInput("image configuration, rootfs.diff_ids is not a list")
    try:
        return tuple(DiffId(digest(_text(item, "rootfs.diff_ids"))) for item in value)
    except InvalidInput as error:
        raise InvalidInput(f"image configuration, rootfs.diff_ids: {error.message[:200]}") from error
