"""A container's OCI specification from the request, its pod's and what the host offers. Pure.

Rules kept: command, arguments and environment as the CRI says (a command replaces the image's entrypoint and drops
its cmd; arguments replace cmd); nothing of the request reaches the specification unchecked; a namespace of the host
is only used where the request asks for it. Errors are InvalidInput with the CRI field's path.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from kernel.contracts.oci import MASKED_PATHS, READONLY_PATHS
from kernel.contracts.runtime import CreateRequest, NamespaceMode, PodRequest, Resources
from kernel.errors import InvalidInput
from services.runtime.spec import capabilities, confinement, limits, oci_mounts, sysctl
from services.runtime.spec.confinement import Confinement
from services.runtime.spec.oci_mounts import Sources
from services.runtime.spec.user import User

Spec = dict[str, object]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNIFIED_KEY = re.compile(r"(cpu|cpuset|hugetlb|io|memory|misc|pids|rdma)(\.[A-Za-z0-9_]+)+", re.ASCII)
_PAGE_SIZE = re.compile(r"[0-9]+[KMG]B", re.ASCII)
_CPUS = re.compile(r"[0-9,\-]*", re.ASCII)
_HELD_WORKING_DIR = re.compile(r"/proc/(self|thread-self|[0-9]+)(/|$)", re.ASCII)
_ARGUMENTS_LIMIT = 2 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A device of the host as a container shall see it."""

    path: str
    kind: Literal["c", "b", "p"]
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the host and the daemon's own process allow."""

    unified: bool
    """cgroup v2."""
    controllers: frozenset[str]
    swap_accounting: bool
    bounding: frozenset[str]
    """The daemon's capability bounding set, names without CAP_."""
    oom_score_adj: int
    may_lower_oom_score: bool
    hostname: str = ""
    cpus: frozenset[int] | None = None
    """Those that a cpuset may have; None where the host does not say."""
    mems: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a container's parts lie on the host."""

    rootfs: str
    cgroups_path: str
    netns: str = ""
    ipc: str = ""
    uts: str = ""
    pid: str = ""
    """The PID namespace to join; empty for a fresh one, or the host's where the request says NODE."""
    sources: Sources
    devices: tuple[DeviceNode, ...] = ()
    devices_withheld: bool = False
    """Whether also a privileged container may use no other devices than these."""
    confinement: Confinement = field(default_factory=Confinement)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What the configuration says for every container."""

    capabilities: tuple[str, ...]
    pids_limit: int
    env: Mapping[str, str] = field(default_factory=dict)
    rlimits: tuple[Spec, ...] = ()
    umask: int | None = None
    sysctls: Mapping[str, str] = field(default_factory=dict)


def plan(pod: PodRequest, request: CreateRequest, user: User, host: Host, place: Place, defaults: Defaults) -> Spec:
    """The OCI specification (config.json)."""
    return {
        "ociVersion": "1.0.2",
        "process": {**_process(pod, request, user, host, defaults), **confinement.process(place.confinement)},
        "root": {"path": place.rootfs, "readonly": request.security.readonly_rootfs},
        "mounts": oci_mounts.plan(pod, request, place.sources),
        "annotations": _annotations(pod, request),
        "linux": _linux(pod, request, host, place, defaults),
    }


def arguments(request: CreateRequest) -> list[str]:
    """What the container's process is started with; InvalidInput where nobody says."""
    image = request.image
    words = [*request.command, *request.args]
    if not request.command:
        words = [*image.entrypoint, *(request.args or image.cmd)]
    if not words or not words[0]:
        raise InvalidInput(f"command: is empty, and image {request.image_name} has neither entrypoint nor cmd")
    if any("\0" in word for word in words):
        raise InvalidInput("command: contains a NUL byte")
    if sum(len(word) for word in words) > _ARGUMENTS_LIMIT:
        raise InvalidInput(f"command: is longer than {_ARGUMENTS_LIMIT} bytes")
    return words


def environment(
    pod: PodRequest, request: CreateRequest, host: Host, defaults: Mapping[str, str] | None = None
) -> list[str]:
    """NAME=value: the defaults, then the image's, then the request's; a later one replaces an earlier of its name."""
    values = {"PATH": PATH, "HOSTNAME": hostname(pod, host), **(defaults or {})}
    if request.tty:
        values["TERM"] = "xterm"
    for pair in request.image.env:
        name, equals, value = pair.partition("=")
        if name and equals and "\0" not in pair:
            values[name] = value
    for index, (name, value) in enumerate(request.envs):
        if not name or "=" in name or "\0" in name:
            raise InvalidInput(f"envs[{index}].key: {name[:64]!r} is not a variable's name")
        if "\0" in value:
            raise InvalidInput(f"envs[{index}].value: contains a NUL byte")
        values[name] = value
    if any(ord(letter) < 32 for letter in values.get("HOME", "")):
        raise InvalidInput("envs: HOME contains a control character")
    return [f"{name}={value}" for name, value in values.items()]


def hostname(pod: PodRequest, host: Host) -> str:
    """The pod's host name: the host's own where it shares the host's network, as kubelet and peers have it."""
    return host.hostname if pod.network is NamespaceMode.NODE else pod.hostname or pod.name[:64]


def working_dir(request: CreateRequest) -> str:
    """Where the process starts; InvalidInput for a path that a descriptor left open could turn outside."""
    asked = request.working_dir
    if asked and not asked.startswith("/"):
        raise InvalidInput(f"working_dir: {asked[:64]!r} is not an absolute path")
    path = "/" + posixpath.normpath("/" + (asked or request.image.working_dir or "/")).lstrip("/")
    if _HELD_WORKING_DIR.match(path) or "\0" in path:
        field = "working_dir" if asked else f"image {request.image_name}: WorkingDir"
        raise InvalidInput(f"{field}: {path[:64]!r} may not be a working directory")
    return path


def _process(pod: PodRequest, request: CreateRequest, user: User, host: Host, defaults: Defaults) -> Spec:
    security, chosen = request.security, _capabilities(request, host, defaults)
    return {
        "terminal": request.tty,
        "user": {
            "uid": user.uid, "gid": user.gid, "additionalGids": list(user.supplemental_groups),
            **({} if defaults.umask is None else {"umask": defaults.umask}),
        },
        "args": arguments(request),
        "env": environment(pod, request, host, defaults.env),
        "cwd": working_dir(request),
        "capabilities": {
            "bounding": chosen, "effective": chosen, "permitted": chosen, "inheritable": [], "ambient": [],
        },
        "noNewPrivileges": security.no_new_privs,
        "rlimits": list(defaults.rlimits),
        "oomScoreAdj": _oom_score_adj(request.resources.oom_score_adj, host),
    }  # fmt: skip


def _capabilities(request: CreateRequest, host: Host, defaults: Defaults) -> list[str]:
    security = request.security
    return capabilities.resolve(
        defaults.capabilities, security.add_capabilities, security.drop_capabilities,
        privileged=security.privileged, bounding=host.bounding,
    )  # fmt: skip


def _oom_score_adj(asked: int, host: Host) -> int:
    """Always set, or the container would have the daemon's own; below that the kernel wants CAP_SYS_RESOURCE."""
    if not -1000 <= asked <= 1000:
        raise InvalidInput(f"linux.resources.oom_score_adj: {asked} is not between -1000 and 1000")
    return asked if host.may_lower_oom_score else max(asked, host.oom_score_adj)


def _linux(pod: PodRequest, request: CreateRequest, host: Host, place: Place, defaults: Defaults) -> Spec:
    security = request.security
    any_device = security.privileged and not place.devices_withheld
    linux: Spec = {
        "namespaces": _namespaces(pod, request, host, place),
        "cgroupsPath": place.cgroups_path,
        "resources": resources(request.resources, place, host, defaults, privileged=any_device),
        "sysctl": {**defaults.sysctls, **sysctl.check(pod)},
        **confinement.linux(place.confinement, _capabilities(request, host, defaults)),
    }
    if place.devices:
        linux["devices"] = [
            {
                "path": node.path, "type": node.kind, "major": node.major, "minor": node.minor,
                "fileMode": node.mode, "uid": node.uid, "gid": node.gid,
            }
            for node in place.devices
        ]  # fmt: skip
    if not security.privileged:
        linux["maskedPaths"] = _plain_paths("masked_paths", security.masked_paths, MASKED_PATHS)
        linux["readonlyPaths"] = _plain_paths("readonly_paths", security.readonly_paths, READONLY_PATHS)
    propagation = oci_mounts.root_propagation(request)
    if propagation:
        linux["rootfsPropagation"] = propagation
    return linux


def _plain_paths(field: str, asked: tuple[str, ...] | None, default: tuple[str, ...]) -> list[str]:
    if asked is None:
        return list(default)
    for index, path in enumerate(asked):
        if not path.startswith("/") or posixpath.normpath(path) != path or "\0" in path:
            raise InvalidInput(f"linux.security_context.{field}[{index}]: {path[:64]!r} is not a plain absolute path")
    return list(asked)


def _namespaces(pod: PodRequest, request: CreateRequest, host: Host, place: Place) -> list[dict[str, str]]:
    found = [{"type": "mount"}]
    if pod.network is not NamespaceMode.NODE:
        found += [{"type": "network", "path": place.netns}, {"type": "uts", "path": place.uts}]
    if pod.ipc is not NamespaceMode.NODE:
        found.append({"type": "ipc", "path": place.ipc})
    if request.security.pid is not NamespaceMode.NODE:
        found.append({"type": "pid", "path": place.pid} if place.pid else {"type": "pid"})
    if host.unified and not request.security.privileged:
        found.append({"type": "cgroup"})
    return found


def resources(asked: Resources, place: Place, host: Host, defaults: Defaults, *, privileged: bool = False) -> Spec:
    """The `linux.resources`, which the OCI runtime turns into v1 or v2 files; what the host lacks is left out."""
    check_resources(asked)
    limits.check_sets(asked, host.cpus, host.mems)
    found: Spec = {"devices": _device_rules(place.devices, privileged=privileged)}
    found.update(limits.spec(asked, support(host)))
    if defaults.pids_limit and "pids" in host.controllers:
        found["pids"] = {"limit": defaults.pids_limit}
    return found


def support(host: Host) -> limits.Support:
    """What of limits the host knows."""
    return limits.Support(unified=host.unified, controllers=host.controllers, swap=host.swap_accounting)


def check_resources(asked: Resources) -> None:
    """InvalidInput for limits that cannot be."""
    bounded = {
        "cpu_period": asked.cpu_period, "cpu_shares": asked.cpu_shares,
        "memory_limit_in_bytes": asked.memory_limit_in_bytes,
    }  # fmt: skip
    for name, value in bounded.items():
        if not 0 <= value < 2**63 - 1:
            raise InvalidInput(f"linux.resources.{name}: {value} is out of range")
    for name, value in (
        ("cpu_quota", asked.cpu_quota),
        ("memory_swap_limit_in_bytes", asked.memory_swap_limit_in_bytes),
    ):
        if value < -1:
            raise InvalidInput(f"linux.resources.{name}: {value} is out of range")
    for name, text in (("cpuset_cpus", asked.cpuset_cpus), ("cpuset_mems", asked.cpuset_mems)):
        if not _CPUS.fullmatch(text) or len(text) > 4096:
            raise InvalidInput(f"linux.resources.{name}: {text[:64]!r} is not a list of numbers and ranges")
    for size, limit in asked.hugepage_limits.items():
        if not _PAGE_SIZE.fullmatch(size) or limit < 0:
            raise InvalidInput(f"linux.resources.hugepage_limits: {size[:16]!r} of {limit} bytes cannot be")
    for key, text in asked.unified.items():
        if not _UNIFIED_KEY.fullmatch(key) or "\n" in text:
            raise InvalidInput(f"linux.resources.unified: {key[:64]!r} is not a key of cgroup v2")


def _device_rules(devices: tuple[DeviceNode, ...], *, privileged: bool) -> list[Spec]:
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[Spec] = [{"allow": False, "access": "rwm"}]
    rules += [
        {"allow": True, "type": node.kind, "major": node.major, "minor": node.minor, "access": node.permissions}
        for node in devices
        if node.kind != "p"
    ]
    return rules


def _annotations(pod: PodRequest, request: CreateRequest) -> dict[str, str]:
    """Kubernetes' own and those that hooks look for; others could switch the OCI runtime's behaviour."""
    passed = {
        key: value
        for key, value in request.annotations.items()
        if key.startswith("io.kubernetes.") and not key.startswith(("io.kubernetes.cri-o.", "io.kubernetes.cri."))
    }
    return {
        **passed,
        "io.container.manager": "crisp",
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": request.name,
        "io.kubernetes.cri.image-name": request.image_name,
        "io.kubernetes.cri.sandbox-id": pod.sandbox,
        "io.kubernetes.cri.sandbox-name": pod.name,
        "io.kubernetes.cri.sandbox-namespace": pod.namespace,
        "io.kubernetes.cri.sandbox-uid": pod.uid,
        **_pod_size(pod),
    }


def _pod_size(pod: PodRequest) -> dict[str, str]:
    """What the pod may use as a whole, as OCI runtimes that give it a machine of its own read it from the peers."""
    found = {}
    held, nothing = pod.resources, Resources()
    if held != nothing:
        found = {
            "io.kubernetes.cri.sandbox-cpu-period": str(held.cpu_period),
            "io.kubernetes.cri.sandbox-cpu-quota": str(held.cpu_quota),
            "io.kubernetes.cri.sandbox-cpu-shares": str(held.cpu_shares),
            "io.kubernetes.cri.sandbox-memory": str(held.memory_limit_in_bytes),
        }
    for name, given in (("resources", pod.resources), ("overhead", pod.overhead)):
        if given != nothing:
            values = {key: value for key, value in msgspec.to_builtins(given).items() if value}
            if sizes := values.pop("hugepage_limits", None):
                values["hugepage_limits"] = [{"page_size": size, "limit": limit} for size, limit in sizes.items()]
            found[f"pod-linux-{name}.crio.io"] = msgspec.json.encode(values).decode()
    return found
