"""UserNamespace (NamespaceOption.userns_options) of pods and containers; Mount.uidMappings and gidMappings. Pure.

These are the rules of KEP-127, and crisp's:
- A user namespace belongs to the pod, so UserNamespace.mode is POD or NODE.
- There is one range of users and one of groups. It begins with root inside and never with the host's root outside.
- A pod in a user namespace uses neither the PID nor the IPC namespace of the host.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernel.contracts.oci import IdMap, IdRange
from kernel.contracts.runtime import NamespaceMode, Platform, PodRequest
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition
from kernel.front.requests import fields

_END = (1 << 32) - 1
"""The first number that is no id: the kernel keeps 2^32 - 1 for "no id"."""


def of_pod(field: str, options: cri.NamespaceOption) -> IdMap | None:
    """Return the map of a pod's user namespace; None if it uses the host's. `field` is the path of the options."""
    field = f"{field}.userns_options"
    if not options.HasField("userns_options"):
        return None
    given = options.userns_options
    if given.mode == cri.NODE:
        if given.uids or given.gids:
            fields.refuse(f"{field}.uids" if given.uids else f"{field}.gids", "are given with the host's namespace")
        return None
    if given.mode != cri.POD:
        name = {cri.CONTAINER: NamespaceMode.CONTAINER.name, cri.TARGET: NamespaceMode.TARGET.name}.get(given.mode)
        fields.refuse(f"{field}.mode", f"{name or given.mode} is not one of POD, NODE")
    ids = IdMap(uids=_one_range(f"{field}.uids", given.uids), gids=_one_range(f"{field}.gids", given.gids))
    for which, found in (("uids", ids.uids), ("gids", ids.gids)):
        if found.container_id:
            fields.refuse(f"{field}.{which}[0].container_id", f"{found.container_id} leaves root without a mapping")
    for which, mode in (("pid", options.pid), ("ipc", options.ipc)):
        if mode == cri.NODE:
            name = f"{field.removesuffix('.userns_options')}.{which}"
            fields.refuse(name, "NODE is not possible with a user namespace")
    return ids


def check_container(field: str, options: cri.NamespaceOption, pod: cri.NamespaceOption) -> None:
    """Refuse userns_options of a container that differ from its pod's, which are the ones that count."""
    if not options.HasField("userns_options"):
        return
    if of_pod(field, options) != of_pod("pod", pod):
        fields.refuse(f"{field}.userns_options", "is not that of the pod")


def of_mount(field: str, mount: cri.Mount) -> IdMap | None:
    """Return Mount.uidMappings and gidMappings: the map of a volume's owners; None if both are empty."""
    if not mount.uidMappings and not mount.gidMappings:
        return None
    return IdMap(
        uids=_one_range(f"{field}.uidMappings", mount.uidMappings),
        gids=_one_range(f"{field}.gidMappings", mount.gidMappings),
    )


def check_handler(pod: PodRequest, platform: Platform, default: str) -> None:
    """Raise FailedPrecondition if the pod has a user namespace and its handler cannot make one on this host.

    `default` is the name of the default handler.
    """
    name = pod.handler or default
    if pod.user_namespace is None or any(one.name == name and one.user_namespaces for one in platform.handlers):
        return
    raise FailedPrecondition(
        f"config.linux.security_context.namespace_options.userns_options: runtime handler {name!r} has no user "
        "namespaces on this host",
        hint="they need Linux 6.8, a file system below crisp's root that can be id-mapped, and a runtime that has them",
    )


def _one_range(field: str, given: Sequence[cri.IDMapping]) -> IdRange:
    """Return the only IDMapping of a list: host_id, container_id, length."""
    if len(given) != 1:
        fields.refuse(field, f"are {len(given)} mappings: there must be exactly one")
    one = given[0]
    fields.integer(f"{field}[0].length", one.length, 1, _END)
    for name, first in (("host_id", one.host_id), ("container_id", one.container_id)):
        if first + one.length > _END:
            fields.refuse(f"{field}[0].{name}", f"{first} with {one.length} ids goes beyond the last one")
    if not one.host_id:
        fields.refuse(f"{field}[0].host_id", "is the host's root")
    return IdRange(container_id=one.container_id, host_id=one.host_id, length=one.length)
