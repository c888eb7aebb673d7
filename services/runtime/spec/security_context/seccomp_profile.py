"""A seccomp profile as files have it: its types, and the checks that types cannot express. Pure.

A profile is either a document of containers/common (archMap; rules that hold for some architectures, capabilities or
kernels) or an OCI `linux.seccomp` by itself (architectures). Rules kept: everything in a document is checked before
the OCI runtime gets it; system calls are names, so one that the OCI runtime's libseccomp does not know costs nothing:
runc and crun both leave it out.
"""

from __future__ import annotations

import errno
import re
from typing import Literal

import msgspec

from kernel.errors import InvalidInput

Action = Literal[
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
]  # fmt: skip
Operator = Literal[
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
]  # fmt: skip
LIMIT = 1 << 20
"""Most bytes of a profile; a generous one has a twentieth of it."""
_SYSTEM_CALL = re.compile(r"[a-z_][a-z0-9_]{0,63}", re.ASCII | re.IGNORECASE)
_CONSTANT = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
_RETURNING = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
"""Actions that give the caller an error number."""


class _Document(msgspec.Struct, rename="camel"):
    """A part of a profile; names as config-linux.md, Seccomp, has them, and unknown ones are ignored."""


class Argument(_Document):
    """A comparison with an argument of a system call."""

    index: int
    value: int
    op: Operator
    value_two: int = 0


class Condition(_Document):
    """The conditions under which a rule holds (containers/common)."""

    caps: list[str] | None = None
    """Capabilities of the container, as CAP_NAME."""
    arches: list[str] | None = None
    """Architectures by Go's names: `amd64`."""
    min_kernel: str | None = None
    """The lowest kernel release: `4.8`."""


class Rule(_Document):
    """The action of a profile for some system calls, and its conditions."""

    action: Action
    names: list[str] | None = None
    name: str = ""
    args: list[Argument] | None = None
    errno_ret: int | None = None
    errno: str = ""
    includes: Condition | None = None
    excludes: Condition | None = None

    @property
    def system_calls(self) -> list[str]:
        """The names of both fields that can hold some."""
        return [*([self.name] if self.name else []), *(self.names or ())]


class ArchMap(_Document):
    """An architecture, and others whose programs it runs too; all by libseccomp's names."""

    architecture: str
    sub_architectures: list[str] | None = None


class SeccompProfile(_Document):
    """A profile that was read and checked, not yet resolved for a container."""

    default_action: Action
    default_errno_ret: int | None = None
    default_errno: str = ""
    arch_map: list[ArchMap] | None = None
    architectures: list[str] | None = None
    flags: list[str] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: list[Rule] | None = None


def parse(content: bytes, what: str) -> SeccompProfile:
    """Return the profile in a JSON document; InvalidInput begins with `what` and names the field that is wrong."""
    if len(content) > LIMIT:
        raise InvalidInput(f"{what}: is larger than {LIMIT} bytes")
    try:
        profile = msgspec.json.decode(content, type=SeccompProfile)
        _check(profile)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what}: is not a seccomp profile: {error}") from error
    return profile


def error_number(action: str, number: int | None, name: str) -> int | None:
    """Return the error number that the caller of a system call gets; ValueError if `number` or `name` is none.

    None if the action gives no number, or if the OCI runtime's default holds.
    """
    if action not in _RETURNING:
        return None
    if number is None and name:
        number = getattr(errno, name, None) if _CONSTANT.fullmatch(name) else None
        if not isinstance(number, int):
            raise ValueError(f"{name[:64]!r} is not an error's name")
    if number is not None and not 0 <= number <= 4095:
        raise ValueError(f"{number} is not an error's number")
    return number


def kernel_release(text: str) -> tuple[int, int]:
    """Return the first two numbers of a kernel's release; ValueError if there are none."""
    found = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", text, re.ASCII)
    if found is None:
        raise ValueError(f"{text[:64]!r} is not a kernel's version")
    return int(found[1]), int(found[2])


def _check(profile: SeccompProfile) -> None:
    """Raise ValueError for values that the types allow and a profile may not have."""
    error_number(profile.default_action, profile.default_errno_ret, profile.default_errno)
    for name in [*(profile.architectures or ()), *(profile.flags or ())]:
        _match(_CONSTANT, name)
    for entry in profile.arch_map or ():
        for name in (entry.architecture, *(entry.sub_architectures or ())):
            _match(_CONSTANT, name)
    if profile.listener_path and not profile.listener_path.startswith("/"):
        raise ValueError(f"listenerPath: {profile.listener_path[:64]!r} is not an absolute path")
    for index, rule in enumerate(profile.syscalls or ()):
        try:
            _check_rule(rule)
        except ValueError as error:
            raise ValueError(f"syscalls[{index}]: {error}") from error


def _check_rule(rule: Rule) -> None:
    names = rule.system_calls
    if not names:
        raise ValueError("names no system call")
    for name in names:
        _match(_SYSTEM_CALL, name)
    error_number(rule.action, rule.errno_ret, rule.errno)
    for argument in rule.args or ():
        if not 0 <= argument.index <= 5:
            raise ValueError(f"args: {argument.index} is not an argument's index")
        if not (0 <= argument.value < 1 << 64 and 0 <= argument.value_two < 1 << 64):
            raise ValueError("args: a value has more than 64 bits")
    for condition in (rule.includes, rule.excludes):
        if condition is not None and condition.min_kernel:
            kernel_release(condition.min_kernel)


def _match(pattern: re.Pattern[str], text: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text[:64]!r} is not a name of seccomp's")
