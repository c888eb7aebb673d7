"""A container's capabilities: the configured list, what the request adds and drops, and what the daemon itself holds.
Pure.

Rules kept: the inheritable and ambient sets stay empty; nothing that the daemon lacks is ever asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.errors import InvalidInput

NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
"""In order of their bits (linux/capability.h)."""


def from_mask(mask: int) -> frozenset[str]:
    """The names of a mask as /proc/PID/status prints it."""
    return frozenset(name for bit, name in enumerate(NAMES) if mask >> bit & 1)


def resolve(
    default: Iterable[str], add: tuple[str, ...], drop: tuple[str, ...], *, privileged: bool, bounding: frozenset[str]
) -> list[str]:
    """The capabilities of a container, as the OCI specification writes them; InvalidInput names a wrong entry.

    ALL in `add` starts from all of them, ALL in `drop` from none; single names then add, and then drop.
    """
    adds, drops = _names("add_capabilities", add), _names("drop_capabilities", drop)
    if privileged:
        chosen = set(NAMES)
    else:
        chosen = {name.upper().removeprefix("CAP_") for name in default}
        if "ALL" in adds:
            chosen = set(NAMES)
        if "ALL" in drops:
            chosen = set()
        chosen = (chosen | adds) - drops - {"ALL"}
    return [f"CAP_{name}" for name in NAMES if name in chosen & bounding]


def lacking(add: tuple[str, ...], *, privileged: bool, bounding: frozenset[str]) -> list[str]:
    """What a container asks for, by name or all of them, and does not get: the daemon has not got it itself."""
    asked = _names("add_capabilities", add)
    wanted = set(NAMES) if privileged or "ALL" in asked else asked
    return [f"CAP_{name}" for name in NAMES if name in wanted - bounding]


def _names(field: str, given: tuple[str, ...]) -> set[str]:
    names = set()
    for index, text in enumerate(given):
        name = text.upper().removeprefix("CAP_")
        if name != "ALL" and name not in NAMES:
            raise InvalidInput(
                f"linux.security_context.capabilities.{field}[{index}]: {text[:64]!r} is not a capability"
            )
        names.add(name)
    return names
