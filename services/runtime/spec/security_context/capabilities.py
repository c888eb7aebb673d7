"""A container's capabilities: the configured list, with the request's additions and removals. Pure.

It makes the sets of `process.capabilities` (config.md, Linux Process) from linux.security_context.capabilities and
.privileged. Rule kept: a capability that the runtime worker itself lacks is never requested from the OCI runtime.
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
"""All capabilities in the order of their bits (linux/capability.h), without CAP_."""


def from_mask(mask: int) -> frozenset[str]:
    """Return the names of the capabilities in a mask, as /proc/PID/status prints it in hexadecimal."""
    return frozenset(name for bit, name in enumerate(NAMES) if mask >> bit & 1)


def resolve(
    default: Iterable[str], add: tuple[str, ...], drop: tuple[str, ...], *, privileged: bool, bounding: frozenset[str]
) -> list[str]:
    """Return the capabilities of a container, each as CAP_NAME; InvalidInput names an entry that is no capability.

    `add` and `drop`: add_capabilities and drop_capabilities. ALL in `add` starts from all of them, ALL in `drop` from
    none; single names are then added, and then dropped. A privileged container has all that `bounding` has.
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
    """Return the capabilities that a container requests, by name or as ALL, and does not get.

    The runtime worker does not have them itself: they are not in `bounding`.
    """
    requested = _names("add_capabilities", add)
    wanted = set(NAMES) if privileged or "ALL" in requested else requested
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
