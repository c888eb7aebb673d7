"""Finds CDI devices in specifications, and their additions to a container. Pure.

These are the Container Device Interface's versions 0.3 to 0.8 and 1.0 (CDI, SPEC.md), as JSON or YAML. A device is
named `vendor.com/class=name`. A later folder's specifications come before an earlier one's; a device that is in two
files of one folder is a conflict. A file that cannot be used costs only its own devices; an error about a device lists
such files with their reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import yaml

from kernel.errors import InvalidInput
from services.runtime.node.admin_files import AdminFile
from services.runtime.spec.additions import STAGES, CdiNode, Edits, Json

ANNOTATION = "cdi.k8s.io/"
"""The beginning of the keys of annotations whose values name devices."""
SUFFIXES = (".json", ".yaml")
_VERSION = re.compile(r"v?(0\.[3-8]|1\.0)\.\d+", re.ASCII)
_KIND = re.compile(r"[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?", re.ASCII)
_LONGEST = 512


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A part of a specification; an unknown field is an error."""


class Node(_Part, kw_only=True, frozen=True):
    """A device node."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class Mount(_Part, kw_only=True, frozen=True):
    """A mount."""

    host_path: str
    container_path: str
    options: list[str] = []
    type: str = ""


class Hook(_Part, kw_only=True, frozen=True):
    """An OCI hook."""

    hook_name: str
    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None


class ContainerEdits(_Part, kw_only=True, frozen=True):
    """Additions to a container's OCI specification."""

    env: list[str] = []
    device_nodes: list[Node] = []
    mounts: list[Mount] = []
    hooks: list[Hook] = []
    additional_gids: list[int] = msgspec.field(name="additionalGids", default_factory=list)
    intel_rdt: dict[str, object] = {}


class Device(_Part, kw_only=True, frozen=True):
    """A device, by the last part of its name."""

    name: str
    annotations: dict[str, str] = {}
    container_edits: ContainerEdits = ContainerEdits()


class Specification(_Part, kw_only=True, frozen=True):
    """A file: devices of one kind, and the additions that all of them share."""

    cdi_version: str
    kind: str
    annotations: dict[str, str] = {}
    devices: list[Device] = []
    container_edits: ContainerEdits = ContainerEdits()


def requested(devices: Sequence[str], annotations: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return field and qualified name of each device that a request names, each once; InvalidInput for a wrong name.

    Devices are named in CDI_devices and in annotations.
    """
    found: dict[str, str] = {}
    for index, name in enumerate(devices):
        found.setdefault(name, f"CDI_devices[{index}]")
    for key, value in annotations.items():
        if key.startswith(ANNOTATION):
            for name in value.split(","):
                found.setdefault(name, f"annotations[{key[:80]!r}]")
    for name, field in found.items():
        kind, equals, device = name.partition("=")
        if len(name) > _LONGEST or not (equals and _KIND.fullmatch(kind) and _NAME.fullmatch(device)):
            raise InvalidInput(f"{field}: {name[:80]!r} is not a CDI device", hint="name it vendor.com/class=name")
    return tuple((field, name) for name, field in found.items())


def resolve(wanted: Iterable[tuple[str, str]], files: Iterable[AdminFile]) -> Edits:
    """Return the devices' additions; InvalidInput names one that cannot be found. `wanted`: from `requested`."""
    specifications, unusable = _parse_all(files)
    edits = Edits()
    used: set[str] = set()
    for field, name in wanted:
        path, specification, device = _find(field, name, specifications, unusable)
        if path not in used:  # the additions that all devices of a file share are made once
            used.add(path)
            edits += _edits(specification.container_edits)
        edits += _edits(device.container_edits)
    return edits


def parse(file: AdminFile) -> Specification:
    """Return the specification in a file; ValueError has the reason if it cannot be used."""
    if file.reason:
        raise ValueError(file.reason)
    try:
        data = yaml.safe_load(file.content) if file.name.endswith(".yaml") else msgspec.json.decode(file.content)
        specification = msgspec.convert(data, Specification)
    except (yaml.YAMLError, msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    if not _VERSION.fullmatch(specification.cdi_version):
        raise ValueError(f"cdiVersion {specification.cdi_version[:20]!r} is not known")
    if not _KIND.fullmatch(specification.kind):
        raise ValueError(f"kind {specification.kind[:80]!r} is not vendor.com/class")
    names = [device.name for device in specification.devices]
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"device name {name[:80]!r} is not valid")
        if names.count(name) > 1:
            raise ValueError(f"device {name} is given twice")
    for edits in (specification.container_edits, *(device.container_edits for device in specification.devices)):
        _check(edits)
    return specification


_Parsed = list[tuple[AdminFile, Specification]]
"""The files that can be used."""


def _parse_all(files: Iterable[AdminFile]) -> tuple[_Parsed, list[str]]:
    found: _Parsed = []
    unusable = []
    for file in files:
        try:
            found.append((file, parse(file)))
        except ValueError as error:
            unusable.append(f"{file.path}: {error}")
    return found, unusable


def _find(field: str, name: str, specifications: _Parsed, unusable: Sequence[str]) -> tuple[str, Specification, Device]:
    kind, _, wanted = name.partition("=")
    matches = [
        (file, specification, device)
        for file, specification in specifications
        if specification.kind == kind
        for device in specification.devices
        if device.name == wanted
    ]
    if not matches:
        note = f"; files that do not count: {'; '.join(unusable)}"[:1000] if unusable else ""
        raise InvalidInput(f"{field}: CDI device {name} is in no specification{note}")
    last = matches[-1][0].folder
    rivals = [file.path for file, _, _ in matches if file.folder == last]
    if len(rivals) > 1:
        raise InvalidInput(f"{field}: CDI device {name} is in several specifications: {', '.join(rivals)}")
    file, specification, device = matches[-1]
    return file.path, specification, device


def _check(edits: ContainerEdits) -> None:
    """Raise ValueError for values that the types allow and a specification may not have."""
    for pair in edits.env:
        if not pair.partition("=")[0] or "=" not in pair or "\0" in pair:
            raise ValueError(f"env {pair[:80]!r} is not NAME=value")
    for node in edits.device_nodes:
        if not node.path.startswith("/") or (node.host_path and not node.host_path.startswith("/")):
            raise ValueError(f"device node {node.path[:80]!r} is not absolute")
        if node.type not in ("", "b", "c", "u", "p") or set(node.permissions) - set("rwm"):
            raise ValueError(f"device node {node.path[:80]!r}: its type or permissions are not valid")
    for mount in edits.mounts:
        if not mount.host_path or not mount.container_path.startswith("/") or ".." in mount.container_path.split("/"):
            raise ValueError(f"mount {mount.container_path[:80]!r} has no absolute path")
    for hook in edits.hooks:
        if hook.hook_name not in STAGES or not hook.path.startswith("/"):
            raise ValueError(f"hook {hook.hook_name[:80]!r} is no stage, or {hook.path[:80]!r} not absolute")
    if any(not 0 <= gid < 2**32 for gid in edits.additional_gids):
        raise ValueError("additionalGids are out of range")


def _edits(given: ContainerEdits) -> Edits:
    return Edits(
        env=tuple(given.env),
        mounts=tuple(_mount(mount) for mount in given.mounts),
        devices=tuple(_node(node) for node in given.device_nodes),
        hooks=tuple((hook.hook_name, _hook(hook)) for hook in given.hooks),
        additional_gids=tuple(gid for gid in given.additional_gids if gid),  # CDI: 0 is ignored
        intel_rdt=given.intel_rdt,
    )


def _mount(mount: Mount) -> Json:
    kind = mount.type or "bind"
    options = list(mount.options)
    if kind == "bind" and not {"bind", "rbind"} & set(options):
        options.append("bind")
    return {"destination": mount.container_path, "type": kind, "source": mount.host_path, "options": options}


def _node(node: Node) -> CdiNode:
    return CdiNode(
        path=node.path, host_path=node.host_path or node.path, kind=node.type, major=node.major, minor=node.minor,
        mode=node.file_mode, uid=node.uid, gid=node.gid, permissions=node.permissions or "rwm",
    )  # fmt: skip


def _hook(hook: Hook) -> Json:
    found: Json = {"path": hook.path}
    for name, value in (("args", hook.args), ("env", hook.env), ("timeout", hook.timeout)):
        if value:
            found[name] = value
    return found
