"""seccomp profiles: from JSON, as containers' tools and the kubelet's folder have it, to the OCI `linux.seccomp`. Pure.

A profile is a document of containers/common (archMap; rules that hold for some architectures, capabilities or kernels)
or an OCI `linux.seccomp` by itself (architectures). Rules kept: what a document says is checked before the OCI runtime
sees it; system calls are names, so one that the runtime's libseccomp does not know costs nothing: both runtimes
leave it out.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import Literal

import msgspec

from kernel.errors import InvalidInput

Section = dict[str, object]
Action = Literal[
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
]  # fmt: skip
Operator = Literal[
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
]  # fmt: skip
LIMIT = 1 << 20
"""Bytes of a profile: the whole of a generous one is a twentieth of it."""
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}", re.ASCII | re.IGNORECASE)
_WORD = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
_RETURNS = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_ARCHES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
}
"""By uname(2): what profiles call an architecture in their conditions, and what libseccomp calls it."""


class _Document(msgspec.Struct, rename="camel"):
    pass


class _Argument(_Document):
    index: int
    value: int
    op: Operator
    value_two: int = 0


class _Condition(_Document):
    caps: list[str] | None = None
    arches: list[str] | None = None
    min_kernel: str | None = None


class _Rule(_Document):
    action: Action
    names: list[str] | None = None
    name: str = ""
    args: list[_Argument] | None = None
    errno_ret: int | None = None
    errno: str = ""
    includes: _Condition | None = None
    excludes: _Condition | None = None


class _ArchMap(_Document):
    architecture: str
    sub_architectures: list[str] | None = None


class Profile(_Document):
    """A profile that was read and checked, not yet resolved for a container."""

    default_action: Action
    default_errno_ret: int | None = None
    default_errno: str = ""
    arch_map: list[_ArchMap] | None = None
    architectures: list[str] | None = None
    flags: list[str] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: list[_Rule] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a profile's conditions ask of the host."""

    architecture: str
    """As uname(2) says: x86_64."""
    kernel: tuple[int, int]


def parse(content: bytes, what: str) -> Profile:
    """A profile from JSON; InvalidInput begins with `what` and says where it is wrong."""
    if len(content) > LIMIT:
        raise InvalidInput(f"{what}: is larger than {LIMIT} bytes")
    try:
        profile = msgspec.json.decode(content, type=Profile)
        _check(profile)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what}: is not a seccomp profile: {error}") from error
    return profile


def resolve(profile: Profile, machine: Machine, capabilities: frozenset[str]) -> Section:
    """The OCI `linux.seccomp` of a container that has `capabilities` (written CAP_X) on this machine."""
    default = _returned(profile.default_action, profile.default_errno_ret, profile.default_errno)
    section: Section = {"defaultAction": profile.default_action}
    if default is not None:
        section["defaultErrnoRet"] = default
    if architectures := _architectures(profile, machine):
        section["architectures"] = architectures
    if profile.flags:
        section["flags"] = list(profile.flags)
    if profile.listener_path:
        section["listenerPath"] = profile.listener_path
        section["listenerMetadata"] = profile.listener_metadata
    section["syscalls"] = [
        _resolved(rule)
        for rule in profile.syscalls or ()
        if _holds(rule, machine, capabilities)
        # what only repeats the default: libseccomp refuses it
        and (rule.action, _returned(rule.action, rule.errno_ret, rule.errno)) != (profile.default_action, default)
    ]
    return section


def machine(architecture: str, release: str) -> Machine:
    """From what uname(2) says."""
    return Machine(architecture=architecture, kernel=_kernel(release))


def _check(profile: Profile) -> None:
    """ValueError for what the types alone let through."""
    _returned(profile.default_action, profile.default_errno_ret, profile.default_errno)
    for name in [*(profile.architectures or ()), *(profile.flags or ())]:
        _match(_WORD, name)
    for entry in profile.arch_map or ():
        for name in (entry.architecture, *(entry.sub_architectures or ())):
            _match(_WORD, name)
    if profile.listener_path and not profile.listener_path.startswith("/"):
        raise ValueError(f"listenerPath: {profile.listener_path[:64]!r} is not an absolute path")
    for index, rule in enumerate(profile.syscalls or ()):
        try:
            _check_rule(rule)
        except ValueError as error:
            raise ValueError(f"syscalls[{index}]: {error}") from error


def _check_rule(rule: _Rule) -> None:
    names = _names(rule)
    if not names:
        raise ValueError("names no system call")
    for name in names:
        _match(_NAME, name)
    _returned(rule.action, rule.errno_ret, rule.errno)
    for argument in rule.args or ():
        if not 0 <= argument.index <= 5:
            raise ValueError(f"args: {argument.index} is not an argument's index")
        if not (0 <= argument.value < 1 << 64 and 0 <= argument.value_two < 1 << 64):
            raise ValueError("args: a value has more than 64 bits")
    for condition in (rule.includes, rule.excludes):
        if condition is not None and condition.min_kernel:
            _kernel(condition.min_kernel)


def _match(pattern: re.Pattern[str], text: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text[:64]!r} is not a name of seccomp's")


def _names(rule: _Rule) -> list[str]:
    return [*([rule.name] if rule.name else []), *(rule.names or ())]


def _returned(action: str, number: int | None, name: str) -> int | None:
    """The error number that an action answers with; None where it answers none, or the runtime's own."""
    if action not in _RETURNS:
        return None
    if number is None and name:
        number = getattr(errno, name, None) if _WORD.fullmatch(name) else None
        if not isinstance(number, int):
            raise ValueError(f"{name[:64]!r} is not an error's name")
    if number is not None and not 0 <= number <= 4095:
        raise ValueError(f"{number} is not an error's number")
    return number


def _architectures(profile: Profile, host: Machine) -> list[str]:
    """The machine's own with those that it runs besides; an OCI section names its own."""
    if profile.arch_map is None:
        return list(profile.architectures or ())
    _, native = _ARCHES.get(host.architecture, ("", ""))
    for entry in profile.arch_map:
        if entry.architecture == native:
            return [native, *(entry.sub_architectures or ())]
    return [native] if native else []


def _holds(rule: _Rule, host: Machine, capabilities: frozenset[str]) -> bool:
    """Included needs all that is named; excluded needs none of it."""
    alias, _ = _ARCHES.get(host.architecture, ("", ""))
    if condition := rule.excludes:
        if alias in (condition.arches or ()) or capabilities & set(condition.caps or ()):
            return False
        if condition.min_kernel and host.kernel >= _kernel(condition.min_kernel):
            return False
    if condition := rule.includes:
        if condition.arches and alias not in condition.arches:
            return False
        if not capabilities >= set(condition.caps or ()):
            return False
        if condition.min_kernel and host.kernel < _kernel(condition.min_kernel):
            return False
    return True


def _resolved(rule: _Rule) -> Section:
    found: Section = {"names": _names(rule), "action": rule.action}
    returned = _returned(rule.action, rule.errno_ret, rule.errno)
    if returned is not None:
        found["errnoRet"] = returned
    if rule.args:
        found["args"] = [
            {"index": one.index, "value": one.value, "valueTwo": one.value_two, "op": one.op} for one in rule.args
        ]
    return found


def _kernel(text: str) -> tuple[int, int]:
    found = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", text, re.ASCII)
    if found is None:
        raise ValueError(f"{text[:64]!r} is not a kernel's version")
    return int(found[1]), int(found[2])
