"""Changes for a pod's user namespace in an OCI specification that is otherwise complete. Pure.

The namespace is linux.security_context.namespace_options.userns_options of PodSandboxConfig. The OCI runtime joins it
by its pin; the specification has its maps too (config-linux.md, User namespace mappings), so that the OCI runtime
knows which id is root.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.contracts.oci import IdMap, IdRange
from kernel.contracts.runtime import CreateRequest, NamespaceMode, PodRequest, Propagation
from kernel.errors import InvalidInput
from services.runtime.spec import mapping
from services.runtime.spec.security_context.user import User

Spec = dict[str, object]
_TTY_GROUP = 5
"""The group of terminals on Linux: the default mount of /dev/pts names it."""


def check_pod(pod: PodRequest) -> None:
    """Raise InvalidInput if the pod requests a namespace of the host beside its user namespace."""
    if pod.user_namespace is None:
        return
    for field, mode in (("pid", pod.pid), ("ipc", pod.ipc)):
        if mode is NamespaceMode.NODE:
            raise InvalidInput(
                f"config.linux.security_context.namespace_options.{field}: NODE is not possible with a user namespace"
            )


def check(pod: PodRequest, request: CreateRequest, user: User) -> None:
    """Raise InvalidInput for ids that the pod's user namespace does not have, and for mounts that go to the host.

    The kernel lets no mount of a user namespace reach the host.
    """
    if pod.user_namespace is None:
        return
    ids = pod.user_namespace
    if request.security.pid is NamespaceMode.NODE:
        raise InvalidInput("linux.security_context.namespace_options.pid: NODE is not possible with a user namespace")
    context = "linux.security_context"
    _check(f"{context}.run_as_user", ids.uids, [user.uid])
    _check(f"{context}.run_as_group", ids.gids, [user.gid])
    _check(f"{context}.supplemental_groups", ids.gids, user.supplemental_groups)
    for index, mount in enumerate(request.mounts):
        if mount.propagation is Propagation.BIDIRECTIONAL:
            raise InvalidInput(
                f"mounts[{index}].propagation: no mount goes from a user namespace to the host",
                hint="use PRIVATE or HOST_TO_CONTAINER",
            )


def apply(spec: Spec, pod: PodRequest, pin: str) -> Spec:
    """Return the specification for a container of the pod. `pin`: path of the pinned user namespace."""
    if pod.user_namespace is None:
        return spec
    mounts = spec["mounts"]
    assert isinstance(mounts, list)  # made by oci_mounts
    return {
        **spec,
        "mounts": [_mount(mount, pod, pod.user_namespace) for mount in mounts],
        "linux": linux(spec["linux"], pod.user_namespace, pin),
    }


def linux(section: object, ids: IdMap, pin: str) -> Spec:
    """Return `linux` with the namespace in `linux.namespaces` and its maps as uidMappings and gidMappings."""
    assert isinstance(section, dict)  # made by oci_spec or pause
    return {
        **section,
        "namespaces": [*section["namespaces"], {"type": "user", "path": pin}],
        "uidMappings": [_range(ids.uids)],
        "gidMappings": [_range(ids.gids)],
    }


def _mount(mount: dict[str, object], pod: PodRequest, ids: IdMap) -> dict[str, object]:
    options = mount["options"]
    assert isinstance(options, list)  # made by oci_mounts
    if mount["type"] == "devpts" and not mapping.has(ids.gids, _TTY_GROUP):
        return {**mount, "options": [option for option in options if option != f"gid={_TTY_GROUP}"]}
    if mount["type"] == "sysfs" and pod.network is NamespaceMode.NODE:
        # sysfs shows a network namespace. Only the user namespace that owns it may mount sysfs, and the pod's does
        # not own the host's.
        return {**mount, "type": "bind", "source": "/sys", "options": ["rbind", "rslave", *options]}
    return mount


def _check(field: str, ids: IdRange, wanted: Iterable[int]) -> None:
    for one in wanted:
        if not mapping.has(ids, one):
            raise InvalidInput(f"{field}: {one} is not one of the {ids.length} ids of the pod's user namespace")


def _range(ids: IdRange) -> Spec:
    return {"containerID": ids.container_id, "hostID": ids.host_id, "size": ids.length}
