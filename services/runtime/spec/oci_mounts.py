"""The `mounts` of a container's OCI specification: the default ones, the request's, the image's volumes. Pure.

It follows config.md, Mounts (for Linux its Default Filesystems too), and the CRI's Mount. Rules kept: a mount of the
request replaces the default one on the same path, and the default ones below /sys if it replaces /sys; a parent
comes before its children; no mount may hide the root or be in /proc.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from kernel.contracts.runtime import CreateRequest, Mount, NamespaceMode, PodRequest, Propagation
from kernel.errors import InvalidInput

OciMount = dict[str, object]
_PROPAGATION = {
    Propagation.PRIVATE: "rprivate",
    Propagation.HOST_TO_CONTAINER: "rslave",
    Propagation.BIDIRECTIONAL: "rshared",
}
"""MountPropagation of the CRI, as the mount options of mount(8)."""
_MOST = 4096
"""Most mounts of a request, and most characters of a path (PATH_MAX)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Paths on the host of the sources of mounts; they were looked up before."""

    shm: str
    """The pod's /dev/shm."""
    resolv_conf: str
    """The pod's resolv.conf."""
    hostname: str
    """The pod's file for /etc/hostname."""
    hosts: str = ""
    """The host's own /etc/hosts for a pod in the host's network; empty for any other."""
    mounts: tuple[str, ...] = ()
    """The host_path of each mount of the request, in its order, with symbolic links resolved."""
    defaults: tuple[tuple[str, str], ...] = ()
    """Path in the container and source of each mount that every container gets by the configuration, read-only."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Path in the container and source of each volume that the image declares."""


def plan(pod: PodRequest, request: CreateRequest, sources: Sources) -> list[OciMount]:
    """Return `mounts`, sorted by depth."""
    requested = _requested(request, sources)
    mounts = {mount["destination"]: mount for mount in _default(pod, request, sources)}
    if "/sys" in requested:
        mounts = {path: mount for path, mount in mounts.items() if not str(path).startswith("/sys/")}
    for path, source in sources.defaults:
        mounts[path] = _mount(path, "bind", source, "rbind", "rprivate", "ro", "nosuid", "nodev")
    for path, source in sources.volumes:
        mounts[path] = _mount(path, "bind", source, "rbind", "rprivate", "rw")
    mounts.update(requested)
    return sorted(
        mounts.values(), key=lambda mount: str(mount["destination"]).count("/") * (mount["destination"] != "/")
    )


def root_propagation(request: CreateRequest) -> str:
    """Return `linux.rootfsPropagation` (config-linux.md), by mounts[].propagation; empty for the runtime's default.

    Mounts pass between host and container only if the container's root is as permeable as the mount below it.
    """
    wanted = {mount.propagation for mount in request.mounts}
    if Propagation.BIDIRECTIONAL in wanted:
        return "rshared"
    return "rslave" if Propagation.HOST_TO_CONTAINER in wanted else ""


def destination(index: int, mount: Mount) -> str:
    """Return a mount's container_path in its plain form; InvalidInput if nothing may be mounted there."""
    field = f"mounts[{index}].container_path"
    path = mount.container_path
    if not path or any(ord(letter) < 32 for letter in path) or len(path) > _MOST:
        raise InvalidInput(f"{field}: {path[:64]!r} is not a path")
    plain = "/" + posixpath.normpath("/" + path).lstrip("/")
    if ".." in path.split("/"):
        raise InvalidInput(f"{field}: {path!r} must not contain '..'")
    if plain == "/" or plain == "/proc" or plain.startswith("/proc/"):
        raise InvalidInput(f"{field}: nothing may be mounted on {plain!r}")
    return plain


def check(request: CreateRequest) -> None:
    """Raise InvalidInput for mounts that are wrong whatever the host has."""
    if len(request.mounts) > _MOST:
        raise InvalidInput(f"mounts: more than {_MOST}")
    for index, mount in enumerate(request.mounts):
        destination(index, mount)
        if mount.image_volume is not None:
            if not mount.readonly or mount.propagation is not Propagation.PRIVATE:
                raise InvalidInput(f"mounts[{index}].readonly: an image is mounted read-only, without propagation")
        elif not mount.host_path.startswith("/") or "\0" in mount.host_path:
            raise InvalidInput(f"mounts[{index}].host_path: {mount.host_path[:64]!r} is not an absolute path")
        if mount.recursive_read_only and not mount.readonly:
            raise InvalidInput(f"mounts[{index}].recursive_read_only: needs readonly")
        if mount.recursive_read_only and mount.propagation is not Propagation.PRIVATE:
            raise InvalidInput(f"mounts[{index}].recursive_read_only: needs private propagation")


def _requested(request: CreateRequest, sources: Sources) -> dict[object, OciMount]:
    """Return the request's mounts by path."""
    requested: dict[object, OciMount] = {}
    for index, (mount, source) in enumerate(zip(request.mounts, sources.mounts, strict=True)):
        path = destination(index, mount)
        options = [
            "rbind",
            _PROPAGATION[mount.propagation],  # mounts[].propagation
            "ro" if mount.readonly else "rw",  # mounts[].readonly
        ]
        if mount.recursive_read_only:  # mounts[].recursive_read_only
            options.append("rro")
        if mount.image_volume is not None:  # mounts[].image
            options += ["nodev", "nosuid"]
        options += mount.options  # mounts[].mount_options
        requested[path] = _mount(path, "bind", source, *options)
    return requested


def _default(pod: PodRequest, request: CreateRequest, sources: Sources) -> list[OciMount]:
    """Return the mounts that a container has in any case."""
    privileged = request.security.privileged
    access = "rw" if privileged else "ro"
    files = "ro" if request.security.readonly_rootfs else "rw"
    mounts = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/dev/shm", "bind", "/dev/shm" if pod.ipc is NamespaceMode.NODE else sources.shm, "rbind", "rw"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", access),
        _mount("/etc/resolv.conf", "bind", sources.resolv_conf, "bind", "rprivate", "nosuid", "nodev", "noexec", files),
        _mount("/etc/hostname", "bind", sources.hostname, "bind", "rprivate", "nosuid", "nodev", "noexec", files),
    ]
    if sources.hosts:
        mounts.append(
            _mount("/etc/hosts", "bind", sources.hosts, "bind", "rprivate", "nosuid", "nodev", "noexec", "ro")
        )
    return mounts


def _mount(path: str, kind: str, source: str, *options: str) -> OciMount:
    return {"destination": path, "type": kind, "source": source, "options": list(options)}
