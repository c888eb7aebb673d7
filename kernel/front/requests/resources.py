"""LinuxContainerResources of containers and pods, and HugepageLimit. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from kernel.contracts.runtime import Resources
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import fields

_UNIFIED_KEY = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9_]+)+", re.ASCII)
_PAGE_SIZE = re.compile(r"[1-9][0-9]{0,4}(KB|MB|GB)", re.ASCII)
_MAX_INT64 = (1 << 63) - 1


def resources_of(field: str, given: cri.LinuxContainerResources) -> Resources:
    """Return the limits; InvalidInput if one is out of its range. `field` is the path of the message.

    cpu_quota and memory_swap_limit_in_bytes take -1 too: no limit. cpu_period and cpu_quota are in microseconds.
    """
    number, most = fields.integer, _MAX_INT64
    return Resources(
        unified=_unified(f"{field}.unified", given.unified),
        hugepage_limits=_hugepages(f"{field}.hugepage_limits", given.hugepage_limits),
        cpu_period=number(f"{field}.cpu_period", given.cpu_period, 0, 1_000_000),
        cpu_quota=number(f"{field}.cpu_quota", given.cpu_quota, -1, most),
        cpu_shares=number(f"{field}.cpu_shares", given.cpu_shares, 0, most),
        memory_limit_in_bytes=number(f"{field}.memory_limit_in_bytes", given.memory_limit_in_bytes, 0, most),
        oom_score_adj=number(f"{field}.oom_score_adj", given.oom_score_adj, -1000, 1000),
        cpuset_cpus=fields.cpuset(f"{field}.cpuset_cpus", given.cpuset_cpus),
        cpuset_mems=fields.cpuset(f"{field}.cpuset_mems", given.cpuset_mems),
        memory_swap_limit_in_bytes=number(
            f"{field}.memory_swap_limit_in_bytes", given.memory_swap_limit_in_bytes, -1, most
        ),
    )


def _unified(field: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return LinuxContainerResources.unified: files of cgroup v2's controllers. `cgroup.*` files are not a limit's."""
    for key, value in given.items():
        if not _UNIFIED_KEY.fullmatch(key) or key.startswith("cgroup."):
            fields.refuse(field, f"{key[:80]!r} is not a controller's file")
        fields.text(f"{field}[{key}]", value)
    return dict(given)


def _hugepages(field: str, given: Iterable[cri.HugepageLimit]) -> dict[str, int]:
    """Return LinuxContainerResources.hugepage_limits: bytes by page size."""
    found: dict[str, int] = {}
    for index, limit in enumerate(given):
        if not _PAGE_SIZE.fullmatch(limit.page_size):
            fields.refuse(f"{field}[{index}].page_size", f"{limit.page_size[:80]!r} is not a size such as '2MB'")
        found[limit.page_size] = fields.integer(f"{field}[{index}].limit", limit.limit, 0, _MAX_INT64)
    return found
