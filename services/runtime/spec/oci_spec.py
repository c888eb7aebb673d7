"""Makes a container's OCI specification from its CRI request, its pod's request and facts about the host. Pure.

The whole follows config.md and config-linux.md of the OCI runtime specification. Rules kept: nothing of the request
gets into the specification unchecked; a namespace of the host is used only if the request asks for it. Errors are
InvalidInput with the path of the CRI field.
"""

from __future__ import annotations

import posixpath

from kernel.contracts.oci import MASKED_PATHS, READONLY_PATHS
from kernel.contracts.runtime import CreateRequest, NamespaceMode, PodRequest
from kernel.errors import InvalidInput
from services.runtime.spec import container_annotations, oci_mounts, process_spec, resources, sysctl
from services.runtime.spec.inputs import Defaults, DeviceNode, Host, Place, Spec
from services.runtime.spec.security_context import confinement
from services.runtime.spec.security_context.user import User

_VERSION = "1.0.2"
"""The version of the OCI runtime specification."""


def plan(pod: PodRequest, request: CreateRequest, user: User, host: Host, place: Place, defaults: Defaults) -> Spec:
    """Return the OCI specification (config.json)."""
    return {
        "ociVersion": _VERSION,
        "process": {
            **process_spec.process(pod, request, user, host, defaults), **confinement.process(place.confinement)
        },
        # linux.security_context.readonly_rootfs
        "root": {"path": place.rootfs, "readonly": request.security.readonly_rootfs},
        "mounts": oci_mounts.plan(pod, request, place.sources),
        "annotations": container_annotations.plan(pod, request),
        "linux": _linux(pod, request, host, place, defaults),
    }  # fmt: skip


def _linux(pod: PodRequest, request: CreateRequest, host: Host, place: Place, defaults: Defaults) -> Spec:
    """Return `linux` (config-linux.md)."""
    security = request.security
    any_device = security.privileged and not place.devices_withheld
    linux: Spec = {
        "namespaces": _namespaces(pod, request, host, place),
        "cgroupsPath": place.cgroups_path,
        "resources": resources.section(request.resources, place, host, defaults, privileged=any_device),
        "sysctl": {**defaults.sysctls, **sysctl.check(pod)},  # linux.sysctls of the pod
        **confinement.linux(place.confinement, process_spec.capability_names(request, host, defaults)),
    }
    if place.devices:
        linux["devices"] = [_device(node) for node in place.devices]
    if not security.privileged:
        linux["maskedPaths"] = _plain_paths("masked_paths", security.masked_paths, MASKED_PATHS)
        linux["readonlyPaths"] = _plain_paths("readonly_paths", security.readonly_paths, READONLY_PATHS)
    propagation = oci_mounts.root_propagation(request)
    if propagation:
        linux["rootfsPropagation"] = propagation
    return linux


def _device(node: DeviceNode) -> Spec:
    """Return an entry of `linux.devices` (config-linux.md, Devices)."""
    return {
        "path": node.path, "type": node.kind, "major": node.major, "minor": node.minor,
        "fileMode": node.mode, "uid": node.uid, "gid": node.gid,
    }  # fmt: skip


def _plain_paths(field: str, requested: tuple[str, ...] | None, default: tuple[str, ...]) -> list[str]:
    """Return `linux.maskedPaths` or `linux.readonlyPaths`: the request's, checked, or the default if it has none."""
    if requested is None:
        return list(default)
    for index, path in enumerate(requested):
        if not path.startswith("/") or posixpath.normpath(path) != path or "\0" in path:
            raise InvalidInput(f"linux.security_context.{field}[{index}]: {path[:64]!r} is not a plain absolute path")
    return list(requested)


def _namespaces(pod: PodRequest, request: CreateRequest, host: Host, place: Place) -> list[dict[str, str]]:
    """Return `linux.namespaces` (config-linux.md, Namespaces) by linux.security_context.namespace_options.

    A namespace without a path is a new one; the host's is used by leaving the type out.
    """
    namespaces = [{"type": "mount"}]
    if pod.network is not NamespaceMode.NODE:
        namespaces += [{"type": "network", "path": place.netns}, {"type": "uts", "path": place.uts}]
    if pod.ipc is not NamespaceMode.NODE:
        namespaces.append({"type": "ipc", "path": place.ipc})
    if request.security.pid is not NamespaceMode.NODE:
        namespaces.append({"type": "pid", "path": place.pid} if place.pid else {"type": "pid"})
    if host.unified and not request.security.privileged:
        namespaces.append({"type": "cgroup"})
    return namespaces
