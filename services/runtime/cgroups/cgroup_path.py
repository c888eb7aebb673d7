"""Cgroup paths of pods, containers and conmons, for the cgroupfs and the systemd driver. Pure.

Rules kept: a path of a request is plain and below the root (never `/`, never with `..`); a container's cgroup is
named `crisp-ID`, its conmon's `crisp-conmon-ID`, as tools that read cgroups expect of a runtime.
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
    """Where a pod's containers go."""

    driver: Driver
    name: str
    """A path from the root of the hierarchy (cgroupfs), or a slice (systemd)."""

    @property
    def path(self) -> str:
        """From the root of the hierarchy, whatever the driver."""
        return self.name if self.driver == "cgroupfs" else slice_path(self.name)

    def container(self, container: ContainerId) -> str:
        """A container's path from the root of the hierarchy."""
        suffix = ".scope" if self.driver == "systemd" else ""
        return f"{self.path}/crisp-{container}{suffix}"

    def oci(self, container: ContainerId) -> str:
        """What `linux.cgroupsPath` of the OCI specification says."""
        return f"{self.name}:crisp:{container}" if self.driver == "systemd" else self.container(container)

    def pause(self, sandbox: SandboxId) -> str:
        """The path of the pod's pause process from the root of the hierarchy."""
        suffix = ".scope" if self.driver == "systemd" else ""
        return f"{self.path}/crisp-pause-{sandbox}{suffix}"

    def oci_pause(self, sandbox: SandboxId) -> str:
        """`linux.cgroupsPath` of the pause process."""
        return f"{self.name}:crisp-pause:{sandbox}" if self.driver == "systemd" else self.pause(sandbox)

    def conmon(self, container: ContainerId) -> str:
        """Where the container's conmon goes; the pod's slice itself takes no process, so a child in both cases."""
        suffix = ".scope" if self.driver == "systemd" else ""
        return f"{self.path}/crisp-conmon-{container}{suffix}"


def monitors(configured: str, pod: PodCgroup) -> PodCgroup:
    """Where the conmons of a pod's containers go: below the configured cgroup, else the pod's own."""
    if not configured:
        return pod
    plain = _plain(configured)
    return PodCgroup(driver=pod.driver, name=plain if pod.driver == "cgroupfs" else _slice_name(plain))


def of_name(name: str) -> PodCgroup:
    """A pod's cgroup by the name that its record holds: made with either driver, whichever is configured now."""
    return PodCgroup(driver="cgroupfs" if name.startswith("/") else "systemd", name=name)


def pod_cgroup(
    driver: Driver, parent: str, default_parent: str, sandbox: SandboxId, roots: tuple[str, ...] = ()
) -> PodCgroup:
    """The pod's cgroup: what the request names, else one of its own below the configured parent. `roots`: those that
    a request's must be below; any where empty."""
    if parent:
        named = _named(driver, parent)
        for part in named.path.split("/"):
            if _OURS.fullmatch(part):  # it would end with that container
                raise InvalidInput(f"{_FIELD}: {parent[:64]!r} is inside the cgroup of a container")
        if roots and not any(f"{named.path}/".startswith(f"{base(driver, root)}/") for root in roots):
            raise InvalidInput(
                f"{_FIELD}: {parent[:64]!r} is not below one of {', '.join(roots)}",
                hint="the configuration's runtime.cgroup_roots says which it may be below",
            )
        return named
    if driver == "cgroupfs":
        return PodCgroup(driver=driver, name=f"{_plain(default_parent)}/{sandbox}")
    above = _slice_name(_plain(default_parent)).removesuffix(".slice")
    return PodCgroup(driver=driver, name=f"{above}-{sandbox}.slice")


def _named(driver: Driver, parent: str) -> PodCgroup:
    if driver == "cgroupfs":
        return PodCgroup(driver=driver, name=_plain(parent))
    name = parent.rpartition("/")[2]
    if not _SLICE.fullmatch(name) or len(name) > 255:
        raise InvalidInput(f"{_FIELD}: {parent[:64]!r} is not a slice, as the systemd cgroup driver needs it")
    return PodCgroup(driver=driver, name=name)


def base(driver: Driver, default_parent: str) -> str:
    """The configured parent of pods' cgroups, from the root of the hierarchy."""
    plain = _plain(default_parent)
    return plain if driver == "cgroupfs" else slice_path(_slice_name(plain))


def slice_path(name: str) -> str:
    """Where systemd puts a slice: `a-b.slice` is `/a.slice/a-b.slice` (systemd.slice(5))."""
    parts = name.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(parts[: count + 1])}.slice" for count in range(len(parts)))


def levels(path: str) -> list[str]:
    """A path and those above it, the outermost first."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]


def inside(path: str, listed: str) -> str:
    """The cgroup of v2 that /proc/PID/cgroup lists, where it lies inside a path; else empty."""
    for line in listed.splitlines():
        if line.startswith(f"0::{path}/"):
            return line[3:]
    return ""


def owner(path: str) -> str:
    """The sandbox or container id that a cgroup's name bears; empty where it bears none."""
    found = _ID.search(path.rpartition("/")[2])
    return found.group() if found else ""


def _slice_name(path: str) -> str:
    """A path as the name of a slice: `/a/b` and `/a.slice/a-b.slice`, which is one already."""
    parts = path.strip("/").split("/")
    return parts[-1] if parts[-1].endswith(".slice") else f"{'-'.join(parts)}.slice"


def _plain(path: str) -> str:
    parts = path.strip("/").split("/")
    if len(path) > 4000 or not all(_PART.fullmatch(part) and part.strip(".") for part in parts):
        raise InvalidInput(f"{_FIELD}: {path[:64]!r} is not a plain cgroup path below the root")
    return "/" + "/".join(parts)
