"""Reads from the host what it and this process allow: controllers, capabilities, names. Run by the runtime worker."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.spec import limits
from services.runtime.spec.inputs import Host
from services.runtime.spec.security_context import capabilities

_CAP_SYS_RESOURCE = 24


def read(found: Hierarchies) -> Host:
    """Return the properties of the host and of this process. `found`: the host's cgroup hierarchies."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return Host(
        unified=found.only_v2,
        controllers=found.controllers(),
        swap_accounting=found.swap_accounting(),
        bounding=capabilities.from_mask(int(status["CapBnd"], 16)),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        may_lower_oom_score=bool(int(status["CapEff"], 16) >> _CAP_SYS_RESOURCE & 1),
        hostname=socket.gethostname(),
        cpus=_available("cpu", found),
        mems=_available("node", found),
    )


def _available(kind: str, found: Hierarchies) -> frozenset[int] | None:
    """Return the CPUs or memory nodes that a cpuset may have; None if the kernel does not list them.

    cgroup v1 accepts only those that are online.
    """
    with suppress(OSError):  # a kernel without NUMA lists no nodes
        return limits.numbers(
            Path(f"/sys/devices/system/{kind}/{'possible' if found.only_v2 else 'online'}").read_text()
        )
    return None


def host_name() -> str:
    """Return the host's own name."""
    return socket.gethostname()


def resolv_conf() -> bytes:
    """Return the host's resolv.conf, for pods without a dns_config; empty if there is none."""
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except OSError:  # then the pod has none either
        return b""
