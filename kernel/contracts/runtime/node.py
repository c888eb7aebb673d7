"""The host as the runtime worker finds it: its runtimes, what it holds, what happens there, and usage. Pure."""

from __future__ import annotations

from typing import Literal

from kernel.contracts.contract import Message, Method, Nothing
from kernel.contracts.oci import Auth
from kernel.contracts.stats import Stats, StatsRequest
from kernel.ids import ContainerId, SandboxId


class ContainerFact(Message, frozen=True, kw_only=True):
    """What the host says of a container."""

    container: ContainerId
    sandbox: SandboxId
    state: Literal["created", "running", "exited", "unknown"]
    """unknown: no process and no exit code is left of it."""
    pid: int = 0
    started_at: int = 0
    finished_at: int = 0
    """Nanoseconds since 1970."""
    exit_code: int = 0
    oom_killed: bool = False
    frozen: bool = False
    """A checkpoint has frozen it, and its archive was not asked for yet."""
    monitor_lost: bool = False
    """It runs, and its conmon does not: nothing writes its log or takes an attach; its exit code is still seen."""


class PodFact(Message, frozen=True, kw_only=True):
    """What the host says of a pod."""

    sandbox: SandboxId
    ready: bool
    """Its namespaces are pinned, and its pause process lives where it has one."""


class Facts(Message, frozen=True, kw_only=True, tag="facts"):
    """Everything the worker holds: the first message of a watch. A container not named here is gone."""

    pods: tuple[PodFact, ...]
    containers: tuple[ContainerFact, ...]


class Changed(Message, frozen=True, kw_only=True, tag="changed"):
    """A container's process ended, or was seen in another state."""

    fact: ContainerFact


class PodChanged(Message, frozen=True, kw_only=True, tag="pod_changed"):
    """A pod's pause process ended."""

    fact: PodFact


class HandlerFact(Message, frozen=True, kw_only=True):
    """A runtime handler that was found on the host."""

    name: str
    version: str
    recursive_read_only_mounts: bool = False
    user_namespaces: bool = False


class Platform(Message, frozen=True, kw_only=True):
    """The runtime as it is on this host."""

    cgroup_driver: Literal["cgroupfs", "systemd"]
    handlers: tuple[HandlerFact, ...]
    missing: tuple[str, ...] = ()
    """Programs that are configured and not there, each with the path looked at."""
    selinux: bool = False
    """Containers' files are labelled: MOUNT_LABEL says how."""


class Inventory(Message, frozen=True, kw_only=True):
    """What the runtime worker holds on the host; ids may belong to no record."""

    pods: tuple[SandboxId, ...]
    containers: tuple[ContainerId, ...]
    cgroups: tuple[str, ...]
    """Cgroups below the configured parent whose name bears none of those ids."""


class HelperRequest(Message, frozen=True, kw_only=True):
    """A credential helper of the configured folder, and the server that it is asked for."""

    helper: str
    server: str


class Helped(Message, frozen=True, kw_only=True):
    """What a credential helper has; empty where that is nothing."""

    auth: Auth

    def __repr__(self) -> str:
        return "Helped(...)"


PLATFORM = Method("platform", Nothing, Platform, deadline=20)
WATCH = Method("watch", Nothing, Nothing, deadline=0, progress=Facts | Changed | PodChanged, watch=True)
"""Facts, then each change as it happens."""
INVENTORY = Method("inventory", Nothing, Inventory, deadline=30)
SWEEP = Method("sweep", Nothing, Nothing, deadline=30)
"""Remove the empty cgroups that INVENTORY lists without an owner."""
STATS = Method("stats", StatsRequest, Stats, deadline=10)
"""Read from the kernel at this moment, never from memory; calls with the same request join."""
ASK_HELPER = Method("ask_helper", HelperRequest, Helped, deadline=60)
"""Run a credential helper, as the image worker's user. FailedPrecondition where none may be run."""
