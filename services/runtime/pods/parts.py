"""The parts of a pod on the host: its folder, files, /dev/shm, pinned namespaces and cgroup.

Run by the runtime worker, each function in a thread of its own that is thrown away: making the parts leaves the
thread in the pod's namespaces. Rules kept: pod.json is written before the first part is made and removed after the
last; each step succeeds if its work is done already.
"""

from __future__ import annotations

import os

from kernel.contracts.runtime import NamespaceMode
from kernel.host import files
from services.runtime.cgroups.made_cgroups import MadeCgroups
from services.runtime.context import Context
from services.runtime.namespaces import namespace_pins
from services.runtime.node import host_support
from services.runtime.pods import limit, pod_request
from services.runtime.pods.pod_state import Pod
from services.runtime.records import bundle
from services.runtime.records.bundle import PodBundle


def note(pod: Pod) -> None:
    """Make the pod's folder and write pod.json."""
    pod.folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    pod.folder.record.write(pod.record)


def make(context: Context, made_cgroups: MadeCgroups, pod: Pod) -> None:
    """Make all parts. If the pod has a user namespace, that and the namespaces that it owns are pinned already."""
    request, folder = pod.request, pod.folder
    owner = request.user_namespace.root if request.user_namespace else (0, 0)
    note(pod)
    made_cgroups.make(pod.cgroup, pod.id)
    limit.write(context.cgroups, pod.cgroup, request)
    host_name = pod_request.host_name(request)
    if request.ipc is not NamespaceMode.NODE:
        namespace_pins.mount_shm(folder.shm, context.config.runtime.shm_size, owner)
    resolv_conf = pod_request.resolv_conf(request) or host_support.resolv_conf()
    files.replace(folder.hostname, f"{host_name}\n".encode(), durable=False, mode=0o644, owner=owner)
    files.replace(folder.resolv_conf, resolv_conf, durable=False, mode=0o644, owner=owner)
    if request.user_namespace is not None:
        os.chown(folder.path, 0, owner[1])
        folder.path.chmod(0o710)  # for the root of the pause process
        if "uts" in pod.pins:
            namespace_pins.set_hostname(folder.uts, host_name)
        return
    namespace_pins.pin(
        None if request.ipc is NamespaceMode.NODE else folder.ipc,
        None if request.network is NamespaceMode.NODE else folder.uts,
        host_name,
    )


def remove(made_cgroups: MadeCgroups, folder: PodBundle, pod: Pod | None) -> None:
    """Remove all parts that are there. `pod` is None if pod.json cannot be read: its cgroup is then not known."""
    for mounted in (folder.net, folder.ipc, folder.uts, folder.user, folder.shm):
        namespace_pins.unmount(mounted)
    if pod is not None:
        made_cgroups.remove(pod.cgroup.path, pod.id)
    bundle.remove(folder.path)
