"""Cgroup paths of pods, containers and conmons, for the cgroupfs and the systemd driver. Pure.

Rules kept: a path that a request names is plain and below the root (never `/`, never with `..`); a container's cgroup
is named `crisp-ID` and its conmon's `crisp-conmon-ID`, the form in which tools that read cgroups expect a runtime's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId

Driver = Literal["cgroupfs", "systemd"]
_FIELD = "linux.cgroup_parent"
_PART = re.compile(r"[A-Za-z0-9_.:@\\-]{1,255}", re.ASCII)
_SLICE = re.compile(r"[A-Za-z0-9_.:@\\]+(-[A-Za-z0-9_.:@\\]+)*\.slice", re.ASCII)
_OURS = re.compile(r"crisp-(conmon-|pause-)?[0-9a-f]{64}(\.scope)?", re.ASCII)
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodCgroup:
    """The cgroup that a pod's containers are in."""

    driver: Driver
    name: str
    """A path from the root of the hierarchy (cgroupfs), or the name of a slice (systemd)."""

    @property
    def path(self) -> str:
        """The path from the root of the hierarchy, with either driver."""
        return self.name if self.driver == "cgroupfs" else slice_path(self.name)

    def container(self, container_id: ContainerId) -> str:
        """Return a container's path from the root of the hierarchy."""
        suffix = ".scope" if self.driver == "systemd" else ""
        return f"{self.path}/crisp-{container_id}{suffix}"

    def oci(self, container_id: ContainerId) -> str:
        """Return a container's `linux.cgroupsPath` of the OCI specification."""
        return f"{self.name}:crisp:{container_id}" if self.driver == "systemd" else self.container(container_id)

    def pause(self, sandbox_id: SandboxId) -> str:
        """Return the path of the pod's pause process from the root of the hierarchy."""
        suffix = ".scope" if self.driver == "systemd" else ""
        return f"{self.path}/crisp-pause-{sandbox_id}{suffix}"

    def oci_pause(self, sandbox_id: SandboxId) -> str:
        """Return the `linux.cgroupsPath` of the pause process."""
        return f"{self.name}:crisp-pause:{sandbox_id}" if self.driver == "systemd" else self.pause(sandbox_id)

    def conmon(self, container_id: ContainerId) -> str:
        """Return the path of a container's conmon: always a child, because a pod's slice itself takes no process."""
        suffix = ".scope" if self.driver == "systemd" else ""
        return f"{self.path}/crisp-conmon-{container_id}{suffix}"


def monitors(configured: str, pod: PodCgroup) -> PodCgroup:
    """Return the cgroup below which the conmons of a pod's containers are: the configured one, else the pod's own."""
    if not configured:
        return pod
    plain = _plain(configured)
    return PodCgroup(driver=pod.driver, name=plain if pod.driver == "cgroupfs" else _slice_name(plain))


def of_name(name: str) -> PodCgroup:
    """Return a pod's cgroup by the name in its record, which may be of another driver than the one configured now."""
    return PodCgroup(driver="cgroupfs" if name.startswith("/") else "systemd", name=name)


def pod_cgroup(
    driver: Driver, parent: str, default_parent: str, sandbox_id: SandboxId, roots: tuple[str, ...] = ()
) -> PodCgroup:
    """Return a pod's cgroup: the one that the request names, else one of its own below the configured parent.

    `roots`: the cgroups below one of which a request's must be; it may be anywhere if there are none.
    """
    if parent:
        named = _named(driver, parent)
        for part in named.path.split("/"):
            if _OURS.fullmatch(part):  # the pod would end with that container
                raise InvalidInput(f"{_FIELD}: {parent[:64]!r} is inside the cgroup of a container")
        if roots and not any(f"{named.path}/".startswith(f"{base(driver, root)}/") for root in roots):
            raise InvalidInput(
                f"{_FIELD}: {parent[:64]!r} is not below one of {', '.join(roots)}",
                hint="name a cgroup below one of the configuration's runtime.cgroup_roots",
            )
        return named
    if driver == "cgroupfs":
        return PodCgroup(driver=driver, name=f"{_plain(default_parent)}/{sandbox_id}")
    above = _slice_name(_plain(default_parent)).removesuffix(".slice")
    return PodCgroup(driver=driver, name=f"{above}-{sandbox_id}.slice")


def _named(driver: Driver, parent: str) -> PodCgroup:
    if driver == "cgroupfs":
        return PodCgroup(driver=driver, name=_plain(parent))
    name = parent.rpartition("/")[2]
    if not _SLICE.fullmatch(name) or len(name) > 255:
        raise InvalidInput(f"{_FIELD}: {parent[:64]!r} is not a slice, which the systemd cgroup driver needs")
    return PodCgroup(driver=driver, name=name)


def base(driver: Driver, default_parent: str) -> str:
    """Return the configured parent of pods' cgroups as a path from the root of the hierarchy."""
    plain = _plain(default_parent)
    return plain if driver == "cgroupfs" else slice_path(_slice_name(plain))


def slice_path(name: str) -> str:
    """Return the path that systemd gives to a slice: `a-b.slice` is `/a.slice/a-b.slice` (systemd.slice(5))."""
    parts = name.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(parts[: count + 1])}.slice" for count in range(len(parts)))


def levels(path: str) -> list[str]:
    """Return a path and the paths above it, the outermost first."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]


def inside(path: str, listed: str) -> str:
    """Return the cgroup of v2 that /proc/PID/cgroup lists, if it lies inside a path; else an empty string."""
    for line in listed.splitlines():
        if line.startswith(f"0::{path}/"):
            return line[3:]
    return ""


def owner(path: str) -> str:
    """Return the sandbox or container id in a cgroup's name; empty if there is none."""
    found = _ID.search(path.rpartition("/")[2])
    return found.group() if found else ""


def _slice_name(path: str) -> str:
    """Return a path as the name of a slice: `a-b.slice` for `/a/b`, and the last part for `/a.slice/a-b.slice`."""
    parts = path.strip("/").split("/")
    return parts[-1] if parts[-1].endswith(".slice") else f"{'-'.join(parts)}.slice"


def _plain(path: str) -> str:
    parts = path.strip("/").split("/")
    if len(path) > 4000 or not all(_PART.fullmatch(part) and part.strip(".") for part in parts):
        raise InvalidInput(f"{_FIELD}: {path[:64]!r} is not a plain cgroup path below the root")
    return "/" + "/".join(parts)
