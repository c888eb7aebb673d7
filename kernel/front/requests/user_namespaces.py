"""User namespaces of the CRI (KEP-127): a pod's mapping, what its containers say of it, and mappings of volumes. Pure.

Rules kept: a namespace is the pod's, so the modes are POD and NODE; one range of users and one of groups, which begin
with root inside, and never with the host's root outside.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernel.contracts.oci import IdMap, IdRange
from kernel.contracts.runtime import NamespaceMode, Platform, PodRequest
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition
from kernel.front.requests import fields

_END = (1 << 32) - 1
"""One past the last id: the kernel keeps that one for 'none'."""


def of_pod(field: str, options: cri.NamespaceOption) -> IdMap | None:
    """The mapping of a pod's user namespace; None where it uses the host's. `field` is that of the options."""
    field = f"{field}.userns_options"
    if not options.HasField("userns_options"):
        return None
    asked = options.userns_options
    if asked.mode == cri.NODE:
        if asked.uids or asked.gids:
            fields.refuse(f"{field}.uids" if asked.uids else f"{field}.gids", "are given with the host's namespace")
        return None
    if asked.mode != cri.POD:
        name = {cri.CONTAINER: NamespaceMode.CONTAINER.name, cri.TARGET: NamespaceMode.TARGET.name}.get(asked.mode)
        fields.refuse(f"{field}.mode", f"{name or asked.mode} is not one of POD, NODE")
    ids = IdMap(uids=_one(f"{field}.uids", asked.uids), gids=_one(f"{field}.gids", asked.gids))
    for which, found in (("uids", ids.uids), ("gids", ids.gids)):
        if found.container_id:
            fields.refuse(f"{field}.{which}[0].container_id", f"{found.container_id} leaves root without a mapping")
    for which, mode in (("pid", options.pid), ("ipc", options.ipc)):
        if mode == cri.NODE:
            fields.refuse(f"{field.removesuffix('.userns_options')}.{which}", "NODE cannot be with a user namespace")
    return ids


def check_container(field: str, options: cri.NamespaceOption, pod: cri.NamespaceOption) -> None:
    """A container's word counts for nothing, but must not be another than its pod's."""
    if not options.HasField("userns_options"):
        return
    mine, pods = of_pod(field, options), of_pod("pod", pod)
    if mine != pods:
        fields.refuse(f"{field}.userns_options", "is not that of the pod")


def of_mount(field: str, mount: cri.Mount) -> IdMap | None:
    """How the owners of a volume's files are mapped; None for no mapping."""
    if not mount.uidMappings and not mount.gidMappings:
        return None
    return IdMap(
        uids=_one(f"{field}.uidMappings", mount.uidMappings), gids=_one(f"{field}.gidMappings", mount.gidMappings)
    )


def check_handler(pod: PodRequest, platform: Platform, default: str) -> None:
    """FailedPrecondition where the pod's handler has no user namespaces on this host."""
    name = pod.handler or default
    if pod.user_namespace is None or any(one.name == name and one.user_namespaces for one in platform.handlers):
        return
    raise FailedPrecondition(
        f"config.linux.security_context.namespace_options.userns_options: runtime handler {name!r} has no user "
        "namespaces on this host",
        hint="they want Linux 6.8, a file system below crisp's root that can be id-mapped, and a runtime with them",
    )


def _one(field: str, given: Sequence[cri.IDMapping]) -> IdRange:
    if len(given) != 1:
        fields.refuse(field, f"are {len(given)} mappings: there must be exactly one")
    asked = given[0]
    fields.integer(f"{field}[0].length", asked.length, 1, _END)
    for name, first in (("host_id", asked.host_id), ("container_id", asked.container_id)):
        if first + asked.length > _END:
            fields.refuse(f"{field}[0].{name}", f"{first} with {asked.length} ids goes beyond the last one")
    if not asked.host_id:
        fields.refuse(f"{field}[0].host_id", "is the host's root")
    return IdRange(container_id=asked.container_id, host_id=asked.host_id, length=asked.length)
