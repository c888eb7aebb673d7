"""The mounts of a container: the default ones, the request's, the image's volumes. Pure.

Rules kept: a mount of the request replaces the default one on the same path, and whatever default lies below
/sys where it replaces /sys; all are sorted so that a parent comes before its children; no mount may hide the
root or lie in /proc.
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
_MOST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where on the host the mounts come from, found out before."""

    shm: str
    resolv_conf: str
    hostname: str
    hosts: str = ""
    """The host's own /etc/hosts for a pod on the host's network; empty otherwise."""
    mounts: tuple[str, ...] = ()
    """The request's host paths in its order, with symbolic links resolved."""
    defaults: tuple[tuple[str, str], ...] = ()
    """Path in the container and source of each mount that the configuration gives to every container, read-only."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Path in the container and source of each volume that the image declares."""


def plan(pod: PodRequest, request: CreateRequest, sources: Sources) -> list[OciMount]:
    """The `mounts` of the OCI specification."""
    asked = _asked(request, sources)
    mounts = {mount["destination"]: mount for mount in _default(pod, request, sources)}
    if "/sys" in asked:
        mounts = {path: mount for path, mount in mounts.items() if not str(path).startswith("/sys/")}
    for path, source in sources.defaults:
        mounts[path] = _mount(path, "bind", source, "rbind", "rprivate", "ro", "nosuid", "nodev")
    for path, source in sources.volumes:
        mounts[path] = _mount(path, "bind", source, "rbind", "rprivate", "rw")
    mounts.update(asked)
    return sorted(
        mounts.values(), key=lambda mount: str(mount["destination"]).count("/") * (mount["destination"] != "/")
    )


def root_propagation(request: CreateRequest) -> str:
    """The propagation of the root that the request's mounts need; empty for the runtime's default."""
    wanted = {mount.propagation for mount in request.mounts}
    if Propagation.BIDIRECTIONAL in wanted:
        return "rshared"
    return "rslave" if Propagation.HOST_TO_CONTAINER in wanted else ""


def destination(index: int, mount: Mount) -> str:
    """A mount's path in the container in its plain form; InvalidInput where it may not be one."""
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
    """InvalidInput for what is wrong with the mounts by themselves."""
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


def _asked(request: CreateRequest, sources: Sources) -> dict[object, OciMount]:
    asked: dict[object, OciMount] = {}
    for index, (mount, source) in enumerate(zip(request.mounts, sources.mounts, strict=True)):
        path = destination(index, mount)
        options = ["rbind", _PROPAGATION[mount.propagation], "ro" if mount.readonly else "rw"]
        if mount.recursive_read_only:
            options.append("rro")
        if mount.image_volume is not None:
            options += ["nodev", "nosuid"]
        options += mount.options
        asked[path] = _mount(path, "bind", source, *options)
    return asked


def _default(pod: PodRequest, request: CreateRequest, sources: Sources) -> list[OciMount]:
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
