"""Reports what the worker has on the host, and removes empty cgroups that belong to no pod or container.

Run by the runtime worker in threads. Rule kept: a cgroup with a process or another cgroup in it is never removed.
"""

from __future__ import annotations

from kernel.contracts.runtime import Inventory
from services.runtime.cgroups import cgroup_path
from services.runtime.containers.container_table import Containers
from services.runtime.context import Context
from services.runtime.pods.pod_table import Pods


def read(context: Context, pods: Pods, containers: Containers) -> Inventory:
    """Return the pods and containers that have a folder, and the cgroups that belong to no pod or container."""
    pod_ids, container_ids = pods.ids(), containers.ids()
    base = cgroup_path.base(context.driver, context.config.runtime.cgroup_parent)
    owned, parents = {*pod_ids, *container_ids}, containers.monitor_parents()
    return Inventory(
        pods=pod_ids,
        containers=container_ids,
        cgroups=tuple(
            path for path in context.cgroups.below(base) if cgroup_path.owner(path) not in owned and path not in parents
        ),
    )


def sweep(context: Context, pods: Pods, containers: Containers) -> None:
    """Remove the cgroups that belong to no pod or container and are empty."""
    for path in read(context, pods, containers).cgroups:
        context.cgroups.remove_if_empty(path)
