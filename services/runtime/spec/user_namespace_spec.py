"""What a pod's user namespace changes in an OCI specification that is otherwise complete. Pure.

The OCI runtime joins the pod's namespace by its pin; the mapping is said too, for the OCI runtime to know who is root.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.contracts.oci import IdMap, IdRange
from kernel.contracts.runtime import CreateRequest, NamespaceMode, PodRequest, Propagation
from kernel.errors import InvalidInput
from services.runtime.namespaces.user_namespace import maps
from services.runtime.spec.user import User

Spec = dict[str, object]
_TTY_GROUP = 5


def check_pod(pod: PodRequest) -> None:
    """InvalidInput for what cannot be together with a user namespace."""
    if pod.user_namespace is None:
        return
    for field, mode in (("pid", pod.pid), ("ipc", pod.ipc)):
        if mode is NamespaceMode.NODE:
            raise InvalidInput(
                f"config.linux.security_context.namespace_options.{field}: NODE cannot be with a user namespace"
            )


def check(pod: PodRequest, request: CreateRequest, user: User) -> None:
    """InvalidInput for ids that the namespace does not know, and for mounts that the host could never get back."""
    if pod.user_namespace is None:
        return
    ids = pod.user_namespace
    if request.security.pid is NamespaceMode.NODE:
        raise InvalidInput("linux.security_context.namespace_options.pid: NODE cannot be with a user namespace")
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


def settle(spec: Spec, pod: PodRequest, pin: str) -> Spec:
    """The specification for a container of the pod."""
    if pod.user_namespace is None:
        return spec
    mounts = spec["mounts"]
    assert isinstance(mounts, list)  # made by oci_mounts
    return {
        **spec,
        "mounts": [_mount(mount, pod, pod.user_namespace) for mount in mounts],
        "linux": linux(spec["linux"], pod.user_namespace, pin),
    }


def linux(said: object, ids: IdMap, pin: str) -> Spec:
    """The part `linux` of a specification with the namespace and its maps."""
    assert isinstance(said, dict)  # made by oci_spec or pause
    return {
        **said,
        "namespaces": [*said["namespaces"], {"type": "user", "path": pin}],
        "uidMappings": [_range(ids.uids)],
        "gidMappings": [_range(ids.gids)],
    }


def _mount(mount: dict[str, object], pod: PodRequest, ids: IdMap) -> dict[str, object]:
    options = mount["options"]
    assert isinstance(options, list)  # made by oci_mounts
    if mount["type"] == "devpts" and not maps(ids.gids, _TTY_GROUP):
        return {**mount, "options": [option for option in options if option != f"gid={_TTY_GROUP}"]}
    if mount["type"] == "sysfs" and pod.network is NamespaceMode.NODE:
        # sysfs shows a network namespace: only its owner may mount it, and the host's is not the pod's
        return {**mount, "type": "bind", "source": "/sys", "options": ["rbind", "rslave", *options]}
    return mount


def _check(field: str, ids: IdRange, wanted: Iterable[int]) -> None:
    for one in wanted:
        if not maps(ids, one):
            raise InvalidInput(f"{field}: {one} is not one of the {ids.length} ids of the pod's user namespace")


def _range(ids: IdRange) -> Spec:
    return {"containerID": ids.container_id, "hostID": ids.host_id, "size": ids.length}
