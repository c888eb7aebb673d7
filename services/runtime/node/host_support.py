"""Finds out what the host and this process allow: controllers, capabilities, names. Run by the runtime worker."""

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
    """What the host and this process allow."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return Host(
        unified=found.only_v2,
        controllers=found.controllers(),
        swap_accounting=found.swap_accounting(),
        bounding=capabilities.from_mask(int(status["CapBnd"], 16)),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        may_lower_oom_score=bool(int(status["CapEff"], 16) >> _CAP_SYS_RESOURCE & 1),
        hostname=socket.gethostname(),
        cpus=_there("cpu", found),
        mems=_there("node", found),
    )


def _there(kind: str, found: Hierarchies) -> frozenset[int] | None:
    """CPUs or memory nodes that a cpuset may name: cgroup v1 takes only those that are on."""
    with suppress(OSError):  # a kernel without NUMA tells of no nodes
        return limits.numbers(
            Path(f"/sys/devices/system/{kind}/{'possible' if found.only_v2 else 'online'}").read_text()
        )
    return None


def host_name() -> str:
    """The host's own name."""
    return socket.gethostname()


def resolv_conf() -> bytes:
    """The host's resolv.conf, for pods that name no DNS servers; empty where there is none."""
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except OSError:  # none: the pod has none either
        return b""
