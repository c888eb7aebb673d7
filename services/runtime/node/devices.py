"""Looks up on the host the devices that a container gets. Run by the runtime worker, in a throw-away thread.

Rules kept: the path of a device must lead, through its links, to a device node or to a folder of some. How many
devices one request may have is bounded, and so is how much is read to count them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

from kernel.contracts.runtime import CreateRequest, Device
from kernel.errors import FailedPrecondition, InvalidInput
from services.runtime.spec.additions import CdiNode
from services.runtime.spec.inputs import DeviceNode
from services.runtime.spec.security_context.user import User

_LIMIT = 1024
"""Most device nodes of one entry of a request."""
_READ_LIMIT = 16384
"""Most entries of folders that are looked at for one of them."""
_DEPTH = 8
"""Most folders below each other."""
_NOT_DEVICES = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"})
"""Names in /dev that each container has of its own, or that are no devices."""
_Kind = Literal["c", "b", "p"]
_KINDS: dict[str, _Kind] = {"b": "b", "c": "c", "u": "c", "p": "p"}
"""Types of devices, by the types of a CDI specification: `u` is an unbuffered character device."""


def find(
    request: CreateRequest,
    additional: Iterable[str],
    cdi_nodes: Iterable[CdiNode],
    owner: User | None,
    *,
    withhold: bool = False,
) -> tuple[DeviceNode, ...]:
    """Return the devices of a container, each by its path in the container; a later one replaces an earlier one.

    These are the host's for a privileged container (unless `withhold`), then those of the configuration
    (`additional`), of the request (devices), and of CDI specifications (`cdi_nodes`). If there is an `owner`, all but
    the last belong to that user.
    """
    found: dict[str, DeviceNode] = {}
    if request.security.privileged and not withhold:
        entries = islice(_nodes(Path("/dev"), "/dev", "rwm", skip=_NOT_DEVICES), _READ_LIMIT)
        found = {node.path: node for node in entries if node}
    for text in additional:
        found.update((node.path, node) for node in _additional(text))
    for index, device in enumerate(request.devices):
        found.update((node.path, node) for node in _requested(f"devices[{index}]", device))
    if owner is not None:
        found = {path: replace(node, uid=owner.uid, gid=owner.gid) for path, node in found.items()}
    for wanted in cdi_nodes:
        found[wanted.path] = _complete(wanted, owner)
    return tuple(found.values())


def parse_additional(text: str) -> Device:
    """Return the device that `HOST[:CONTAINER][:rwm]` of the configuration names. Pure."""
    host, *rest = text.split(":")
    permissions = rest.pop() if rest and not rest[-1].startswith("/") else "rwm"
    container = rest.pop() if rest else host
    if rest or not permissions or set(permissions) - set("rwm"):
        raise FailedPrecondition(f"configuration: runtime.additional_devices: {text!r} is not HOST[:CONTAINER][:rwm]")
    return Device(container_path=container, host_path=host, permissions=permissions)


def _additional(text: str) -> list[DeviceNode]:
    try:
        return _requested("configuration: runtime.additional_devices", parse_additional(text))
    except InvalidInput as error:  # the configuration is wrong, not the request
        raise FailedPrecondition(error.message) from error


def _requested(field: str, device: Device) -> list[DeviceNode]:
    if not set(device.permissions) <= set("rwm") or not device.permissions:
        raise InvalidInput(f"{field}.permissions: {device.permissions[:16]!r} is not made of r, w and m")
    if not device.container_path.startswith("/") or ".." in device.container_path.split("/"):
        raise InvalidInput(f"{field}.container_path: {device.container_path[:64]!r} is not a plain absolute path")
    if not device.host_path.startswith("/"):
        raise InvalidInput(f"{field}.host_path: {device.host_path[:64]!r} is not an absolute path")
    try:
        source = Path(os.path.realpath(device.host_path, strict=True))
    except OSError as error:
        raise InvalidInput(f"{field}.host_path: {device.host_path!r}: {error.strerror}") from error
    seen = list(islice(_nodes(source, device.container_path, device.permissions), _READ_LIMIT))
    nodes = [node for node in seen if node]
    if len(nodes) > _LIMIT or len(seen) >= _READ_LIMIT:
        raise InvalidInput(f"{field}.host_path: {device.host_path!r} holds more than {_LIMIT} devices")
    if not nodes:
        raise InvalidInput(f"{field}.host_path: {device.host_path!r} is not a device, nor a folder of some")
    return nodes


def _nodes(
    source: Path, path: str, permissions: str, skip: frozenset[str] = frozenset(), depth: int = 0
) -> Iterator[DeviceNode | None]:
    """Yield a device node, or each one in a folder; None for every entry that is none, so that all are counted."""
    with suppress(FileNotFoundError):  # a node that was removed while its folder was read
        info = source.stat(follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            if depth < _DEPTH:
                with os.scandir(source) as entries:
                    names = sorted(entry.name for entry in islice(entries, _READ_LIMIT))
                for name in names:
                    if name not in skip:
                        yield from _nodes(source / name, f"{path}/{name}", permissions, depth=depth + 1)
        else:
            yield _node(info, path, permissions)


def _node(info: os.stat_result, path: str, permissions: str) -> DeviceNode | None:
    kind = _kind(info.st_mode)
    if kind is None:
        return None
    return DeviceNode(
        path=path, kind=kind, major=os.major(info.st_rdev), minor=os.minor(info.st_rdev),
        mode=stat.S_IMODE(info.st_mode), uid=info.st_uid, gid=info.st_gid, permissions=permissions,
    )  # fmt: skip


def _kind(mode: int) -> Literal["c", "b"] | None:
    if stat.S_ISCHR(mode):
        return "c"
    return "b" if stat.S_ISBLK(mode) else None


def _complete(wanted: CdiNode, owner: User | None) -> DeviceNode:
    """Return a device of a CDI specification; values that it leaves out are those of the node on the host."""
    uid = wanted.uid if wanted.uid is not None else owner.uid if owner else None
    gid = wanted.gid if wanted.gid is not None else owner.gid if owner else None
    kind = _KINDS.get(wanted.kind)
    if kind == "p" or (kind and (wanted.major or wanted.minor)):
        return DeviceNode(
            path=wanted.path, kind=kind, major=wanted.major, minor=wanted.minor, permissions=wanted.permissions,
            mode=0o600 if wanted.mode is None else wanted.mode & 0o7777, uid=uid or 0, gid=gid or 0,
        )  # fmt: skip
    try:
        found = _node(os.stat(wanted.host_path), wanted.path, wanted.permissions)
    except OSError as error:
        raise InvalidInput(f"CDI_devices: device node {wanted.host_path!r}: {error.strerror}") from error
    if found is None or (kind and found.kind != kind):
        raise InvalidInput(f"CDI_devices: {wanted.host_path!r} is not a device of the type that is specified")
    mode = found.mode if wanted.mode is None else wanted.mode & 0o7777
    return replace(found, mode=mode, uid=found.uid if uid is None else uid, gid=found.gid if gid is None else gid)
