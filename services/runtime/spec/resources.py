"""The `linux.resources` of a container's OCI specification: limits, device rules, most processes. Pure.

It follows config-linux.md, Control groups; the OCI runtime turns it into files of cgroup v1 or v2. `limits` has the
fields that an update can change.
"""

from __future__ import annotations

import re

from kernel.contracts.runtime import Resources
from kernel.errors import InvalidInput
from services.runtime.spec import limits
from services.runtime.spec.inputs import Defaults, DeviceNode, Host, Place, Spec

_UNIFIED_KEY = re.compile(r"(cpu|cpuset|hugetlb|io|memory|misc|pids|rdma)(\.[A-Za-z0-9_]+)+", re.ASCII)
_PAGE_SIZE = re.compile(r"[0-9]+[KMG]B", re.ASCII)
_CPUS = re.compile(r"[0-9,\-]*", re.ASCII)


def section(requested: Resources, place: Place, host: Host, defaults: Defaults, *, privileged: bool = False) -> Spec:
    """Return `linux.resources`; limits that the host cannot keep are left out.

    `privileged`: whether the container may use every device of the host.
    """
    check(requested)
    limits.check_sets(requested, host.cpus, host.mems)
    found: Spec = {"devices": _device_rules(place.devices, privileged=privileged)}
    found.update(limits.section(requested, support(host)))
    if defaults.pids_limit and "pids" in host.controllers:
        found["pids"] = {"limit": defaults.pids_limit}  # config-linux.md, PIDs
    return found


def support(host: Host) -> limits.Support:
    """Return which limits the host can keep."""
    return limits.Support(unified=host.unified, controllers=host.controllers, swap=host.swap_accounting)


def check(requested: Resources) -> None:
    """Raise InvalidInput for values that linux.resources cannot have."""
    bounded = {
        "cpu_period": requested.cpu_period, "cpu_shares": requested.cpu_shares,
        "memory_limit_in_bytes": requested.memory_limit_in_bytes,
    }  # fmt: skip
    for name, value in bounded.items():
        if not 0 <= value < 2**63 - 1:
            raise InvalidInput(f"linux.resources.{name}: {value} is out of range")
    for name, value in (
        ("cpu_quota", requested.cpu_quota),
        ("memory_swap_limit_in_bytes", requested.memory_swap_limit_in_bytes),
    ):
        if value < -1:
            raise InvalidInput(f"linux.resources.{name}: {value} is out of range")
    for name, text in (("cpuset_cpus", requested.cpuset_cpus), ("cpuset_mems", requested.cpuset_mems)):
        if not _CPUS.fullmatch(text) or len(text) > 4096:
            raise InvalidInput(f"linux.resources.{name}: {text[:64]!r} is not a list of numbers and ranges")
    for size, limit in requested.hugepage_limits.items():
        if not _PAGE_SIZE.fullmatch(size) or limit < 0:
            raise InvalidInput(f"linux.resources.hugepage_limits: {size[:16]!r} of {limit} bytes is not valid")
    for key, text in requested.unified.items():
        if not _UNIFIED_KEY.fullmatch(key) or "\n" in text:
            raise InvalidInput(f"linux.resources.unified: {key[:64]!r} is not a key of cgroup v2")


def _device_rules(devices: tuple[DeviceNode, ...], *, privileged: bool) -> list[Spec]:
    """Return `linux.resources.devices` (config-linux.md, Allowed Device list): all denied, but for `devices`."""
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[Spec] = [{"allow": False, "access": "rwm"}]
    rules += [
        {"allow": True, "type": node.kind, "major": node.major, "minor": node.minor, "access": node.permissions}
        for node in devices
        if node.kind != "p"  # a FIFO is no device to the kernel
    ]
    return rules
