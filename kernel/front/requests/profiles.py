"""SecurityProfile (seccomp, apparmor) and SELinuxOption of both security contexts, for pods and containers. Pure.

seccomp and apparmor each have a deprecated field beside them, a string: seccomp_profile_path and apparmor_profile.
If the new field is set it counts, and the deprecated one is not looked at; if neither is set the result is None.
"""

from __future__ import annotations

import re
from typing import Literal

from kernel.contracts.runtime import Profile, SelinuxOptions
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import fields

Context = cri.LinuxSandboxSecurityContext | cri.LinuxContainerSecurityContext
_Kind = Literal["default", "unconfined"]
_KINDS: dict[int, _Kind] = {cri.SecurityProfile.RuntimeDefault: "default", cri.SecurityProfile.Unconfined: "unconfined"}
_PATHS: dict[str, _Kind] = {"runtime/default": "default", "docker/default": "default", "unconfined": "unconfined"}
_PART = re.compile(r"[A-Za-z0-9_.-]*", re.ASCII)
_LEVEL = re.compile(r"[A-Za-z0-9_.,:-]*", re.ASCII)
_LOCALHOST = "localhost/"


def check(field: str, context: Context) -> None:
    """Raise InvalidInput if seccomp, apparmor or selinux_options are not well-formed. `field` is the context's path."""
    seccomp(field, context)
    apparmor(field, context)
    selinux(field, context)


def seccomp(field: str, context: Context) -> Profile | None:
    """Return seccomp, or else seccomp_profile_path. A localhost_ref is a file, which the runtime worker checks."""
    found = _profile(field, "seccomp", context, "seccomp_profile_path", context.seccomp_profile_path)
    if found is not None and ".." in found.ref.split("/"):
        fields.refuse(found.field, f"{found.ref[:80]!r} has '..' in it")
    return found


def apparmor(field: str, context: Context) -> Profile | None:
    """Return apparmor, or else apparmor_profile of a container. A localhost_ref is the name of a loaded profile."""
    path = context.apparmor_profile if isinstance(context, cri.LinuxContainerSecurityContext) else ""
    return _profile(field, "apparmor", context, "apparmor_profile", path)


def selinux(field: str, context: Context) -> SelinuxOptions | None:
    """Return selinux_options (user, role, type, level); None if all are empty."""
    given = context.selinux_options
    parts = {
        part: fields.text(f"{field}.selinux_options.{part}", getattr(given, part), limit=256)
        for part in ("user", "role", "type", "level")
    }
    for part, value in parts.items():
        if not (_LEVEL if part == "level" else _PART).fullmatch(value):
            fields.refuse(f"{field}.selinux_options.{part}", f"{value[:80]!r} is not a part of a context")
    return SelinuxOptions(**parts) if any(parts.values()) else None


def _profile(field: str, name: str, context: Context, deprecated: str, path: str) -> Profile | None:
    if not context.HasField("seccomp" if name == "seccomp" else "apparmor"):
        return _from_path(f"{field}.{deprecated}", path)
    given = context.seccomp if name == "seccomp" else context.apparmor
    if given.profile_type == cri.SecurityProfile.Localhost:
        where = f"{field}.{name}.localhost_ref"
        return Profile(kind="localhost", ref=_ref(where, given.localhost_ref), field=where)
    if given.profile_type not in _KINDS:
        fields.refuse(f"{field}.{name}.profile_type", f"{given.profile_type} is unknown")
    return Profile(kind=_KINDS[given.profile_type], field=f"{field}.{name}")


def _from_path(field: str, path: str) -> Profile | None:
    """Return the profile of a deprecated field: `runtime/default`, `docker/default`, `unconfined`, `localhost/NAME`."""
    if not path:
        return None
    if path.startswith(_LOCALHOST):
        return Profile(kind="localhost", ref=_ref(field, path.removeprefix(_LOCALHOST)), field=field)
    if path not in _PATHS:
        fields.refuse(field, f"{path[:80]!r} is not a profile", "runtime/default, unconfined and localhost/NAME are")
    return Profile(kind=_PATHS[path], field=field)


def _ref(field: str, ref: str) -> str:
    if not ref:
        fields.refuse(field, "is empty")
    return fields.text(field, ref)
