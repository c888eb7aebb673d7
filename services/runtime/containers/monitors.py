"""The cgroups of conmons: each conmon has one of its own, beside its container's or below a configured cgroup.

Run by the runtime worker.
"""

from __future__ import annotations

from functools import partial

from services.runtime.cgroups import cgroup_path
from services.runtime.cgroups.cgroup_path import PodCgroup
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.cgroups.made_cgroups import MadeCgroups
from services.runtime.pods.pod_state import Pod
from services.runtime.programs import conmon
from services.runtime.programs.oci_runtime import OciRuntime


def above(runtime: OciRuntime, pod: Pod) -> PodCgroup:
    """Return the cgroup below which the conmons of a pod's containers are."""
    return cgroup_path.monitors(runtime.settings.conmon_cgroup, pod.cgroup)


def enter(cgroups: Cgroups, made_cgroups: MadeCgroups, runtime: OciRuntime, pod: Pod, path: str) -> conmon.Enter:
    """Return the function that puts a conmon into its cgroup `path`.

    A configured cgroup above it is made when the first conmon needs it; the pod's own is there.
    """
    parent = above(runtime, pod)
    if parent == pod.cgroup:
        return partial(cgroups.enter, path)
    return partial(made_cgroups.enter, parent, path)


def parent_of(path: str) -> str:
    """Return the cgroup that a conmon's cgroup is in. Pure."""
    return path.rpartition("/")[0]
