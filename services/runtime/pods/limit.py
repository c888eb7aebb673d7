"""The limits of a pod's cgroup: of all its containers together, and of the pod's overhead.

Run by the runtime worker in threads, as root. Rule kept: only a cgroup that crisp itself makes gets limits; a pod
below a cgroup parent that the kubelet named has the kubelet's.
"""

from __future__ import annotations

from kernel.contracts.runtime import PodRequest, Resources
from services.runtime.cgroups import limit_files
from services.runtime.cgroups.cgroup_path import PodCgroup
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.node import host_support
from services.runtime.spec import limits, resources


def write(cgroups: Cgroups, cgroup: PodCgroup, request: PodRequest) -> None:
    """Write the limits in a request; does nothing for a cgroup that is not crisp's, or without limits.

    InvalidInput for limits that the host cannot have, FailedPrecondition for a memory limit below the current use.
    """
    if cgroup.driver != "cgroupfs" or request.cgroup_parent:
        return
    whole = limits.total(request.resources, request.overhead)
    if whole == Resources():
        return
    cgroups.delegate(cgroup.path)
    found = host_support.read(cgroups.hierarchies)
    limits.check_sets(whole, found.cpus, found.mems)
    limit_files.apply(cgroups, cgroup.path, whole, whole, resources.support(found), f"pod {request.sandbox_id}")
