"""Adds the parts of CDI devices, folders of hooks and classes of resources to a container's OCI specification. Pure.

A variable of the same name, and a mount or device at the same path, is replaced; everything else is appended.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Spec = dict[str, object]
Json = dict[str, object]
STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
"""Stages of hooks (config.md, POSIX-platform Hooks)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiNode:
    """A device node of a CDI specification; what it leaves out is taken from the node on the host."""

    path: str
    """The path in the container."""
    host_path: str
    kind: str = ""
    """`b`, `c`, `u` (a character device too) or `p`."""
    major: int = 0
    minor: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    permissions: str = "rwm"
    """The access that the cgroup allows: letters of `rwm` (read, write, mknod)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """Parts to add, in the form that the OCI specification has them."""

    env: tuple[str, ...] = ()
    """`process.env`: NAME=value."""
    mounts: tuple[Json, ...] = ()
    devices: tuple[CdiNode, ...] = ()
    """`node.devices` looks these up on the host, for `linux.devices`; `apply` leaves them out."""
    hooks: tuple[tuple[str, Json], ...] = ()
    """`hooks`: each with its stage."""
    additional_gids: tuple[int, ...] = ()
    """`process.user.additionalGids`."""
    intel_rdt: Json = field(default_factory=dict)
    """`linux.intelRdt` (config-linux.md, IntelRdt)."""
    block_io: Json = field(default_factory=dict)
    """`linux.resources.blockIO` (config-linux.md, Block IO)."""

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            env=self.env + other.env,
            mounts=self.mounts + other.mounts,
            devices=self.devices + other.devices,
            hooks=self.hooks + other.hooks,
            additional_gids=self.additional_gids + other.additional_gids,
            intel_rdt={**self.intel_rdt, **other.intel_rdt},
            block_io={**self.block_io, **other.block_io},
        )


def apply(spec: Spec, edits: Edits) -> Spec:
    """Return the specification with the parts added; the one given is not changed."""
    process = _mapping(spec, "process")
    user = _mapping(process, "user")
    linux = _mapping(spec, "linux")
    if edits.env:
        values = {str(pair).partition("=")[0]: str(pair) for pair in (*_list(process, "env"), *edits.env)}
        process = {**process, "env": list(values.values())}
    if edits.additional_gids:
        groups = dict.fromkeys((*_list(user, "additionalGids"), *edits.additional_gids))
        process = {**process, "user": {**user, "additionalGids": list(groups)}}
    if edits.intel_rdt:
        linux = {**linux, "intelRdt": {**_mapping(linux, "intelRdt"), **edits.intel_rdt}}
    if edits.block_io:
        linux = {**linux, "resources": {**_mapping(linux, "resources"), "blockIO": edits.block_io}}
    changed = {**spec, "process": process, "linux": linux}
    if edits.mounts:
        by_path = {str(mount["destination"]): mount for mount in (*_mounts(spec), *edits.mounts)}
        changed["mounts"] = sorted(by_path.values(), key=_depth)
    if edits.hooks:
        hooks = {stage: list(found) for stage in STAGES if (found := _list(_mapping(spec, "hooks"), stage))}
        for stage, hook in edits.hooks:
            hooks.setdefault(stage, []).append(hook)
        changed["hooks"] = hooks
    return changed


def _depth(mount: Json) -> int:
    return str(mount["destination"]).rstrip("/").count("/")


def _mapping(parent: Spec, name: str) -> Spec:
    found = parent.get(name, {})
    assert isinstance(found, dict), name
    return found


def _list(parent: Spec, name: str) -> list[object]:
    found = parent.get(name, [])
    assert isinstance(found, list), name
    return found


def _mounts(spec: Spec) -> list[Json]:
    return [mount for mount in _list(spec, "mounts") if isinstance(mount, dict)]
