"""The host's OCI runtimes, the things that the runtime worker holds there, its events, and usage of resources. Pure."""

from __future__ import annotations

from typing import Literal

from kernel.contracts.definition import Message, Method, Nothing
from kernel.contracts.oci import Auth
from kernel.contracts.stats import Stats, StatsRequest
from kernel.ids import ContainerId, SandboxId


class ContainerFact(Message, frozen=True, kw_only=True):
    """The state of a container on the host."""

    container_id: ContainerId
    sandbox_id: SandboxId
    state: Literal["created", "running", "exited", "unknown"]
    """unknown: there is neither a process of it nor an exit code."""
    pid: int = 0
    """Its first process, in the host's PID namespace; 0 if there is none."""
    started_at: int = 0
    """Nanoseconds since 1970; 0 until it is started."""
    finished_at: int = 0
    """Nanoseconds since 1970; 0 until it has ended."""
    exit_code: int = 0
    """0 to 255: 128 plus the signal's number if a signal ended it, 255 if its exit code is unknown."""
    oom_killed: bool = False
    """Whether the kernel killed a process of the container because memory was exhausted."""
    frozen: bool = False
    """Whether a checkpoint has frozen it, and SEAL was not called yet."""
    monitor_lost: bool = False
    """Whether it runs without its conmon: no process writes its log or serves attach; its exit code is still
    reported."""


class PodFact(Message, frozen=True, kw_only=True):
    """The state of a pod on the host."""

    sandbox_id: SandboxId
    ready: bool
    """Whether its namespaces are pinned, and its pause process lives if it has one."""


class Facts(Message, frozen=True, kw_only=True, tag="facts"):
    """All pods and containers of the worker: the first message of a watch. A container not listed here is gone."""

    pods: tuple[PodFact, ...]
    containers: tuple[ContainerFact, ...]
    unreadable: tuple[ContainerId, ...] = ()
    """Containers whose state file cannot be read: whether they run is unknown."""


class Changed(Message, frozen=True, kw_only=True, tag="changed"):
    """A container's process has ended, or was found in another state."""

    fact: ContainerFact


class PodChanged(Message, frozen=True, kw_only=True, tag="pod_changed"):
    """A pod's pause process has ended."""

    fact: PodFact


class HandlerFact(Message, frozen=True, kw_only=True):
    """A runtime handler that was found on the host."""

    name: str
    version: str
    """Version of the handler's OCI runtime."""
    recursive_read_only_mounts: bool = False
    """Whether it can make mounts read-only with all below them. Together with the next field this is CRI
    RuntimeHandlerFeatures."""
    user_namespaces: bool = False


class Platform(Message, frozen=True, kw_only=True):
    """The runtimes and the kernel's features of this host."""

    cgroup_driver: Literal["cgroupfs", "systemd"]
    handlers: tuple[HandlerFact, ...]
    missing: tuple[str, ...] = ()
    """Configured programs that do not exist, each with the path that was tried."""
    selinux: bool = False
    """Whether containers' files are labelled: MOUNT_LABEL returns the label."""


class Inventory(Message, frozen=True, kw_only=True):
    """The things that the runtime worker holds on the host; ids may belong to no record."""

    pods: tuple[SandboxId, ...]
    containers: tuple[ContainerId, ...]
    cgroups: tuple[str, ...]
    """Cgroups below the configured parent whose names contain no id of these pods and containers."""


class HelperRequest(Message, frozen=True, kw_only=True):
    """A credential helper, and the server whose credentials it must return."""

    helper: str
    """NAME of the program `docker-credential-NAME` in the configured folder."""
    server: str
    """Address of the server, at most 512 printable ASCII characters."""


class Helped(Message, frozen=True, kw_only=True):
    """The credentials that a credential helper returned."""

    auth: Auth
    """The credentials; empty if the helper has none."""

    def __repr__(self) -> str:
        return "Helped(...)"


PLATFORM = Method("platform", Nothing, Platform, deadline=20)
"""Return the runtimes and the kernel's features of this host."""
WATCH = Method("watch", Nothing, Nothing, deadline=0, progress=Facts | Changed | PodChanged, watch=True)
"""Report Facts, then each change as it happens."""
INVENTORY = Method("inventory", Nothing, Inventory, deadline=30)
"""List what the worker holds on the host, for start-up and `crisp doctor`."""
SWEEP = Method("sweep", Nothing, Nothing, deadline=30)
"""Remove those of the cgroups listed by INVENTORY that are empty."""
STATS = Method("stats", StatsRequest, Stats, deadline=10)
"""Return the usage of pods and containers, read from the kernel now and never from memory. Calls with the same request
join."""
ASK_HELPER = Method("ask_helper", HelperRequest, Helped, deadline=60)
"""Run a credential helper as the image worker's user. FailedPrecondition if the configuration allows none."""
