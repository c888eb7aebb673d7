"""The supervisor: the only writer of the state on disk, and the parent of the workers. Called by the front (state)
and by the command line (workers)."""

from __future__ import annotations

from kernel.contracts.contract import Contract, Message, Method, Nothing
from kernel.contracts.records import Container, Exit, Gone, Image, Intent, Sandbox
from kernel.ids import ContainerId, ImageId, SandboxId


class Snapshot(Message, frozen=True, kw_only=True):
    """All that is remembered."""

    sandboxes: tuple[Sandbox, ...]
    containers: tuple[Container, ...]
    images: tuple[Image, ...]
    intents: tuple[Intent, ...]
    exits: tuple[Exit, ...]
    gone: tuple[Gone, ...] = ()
    """What was removed lately, the earliest first."""
    damaged: str = ""
    """Why the state was rebuilt instead of read; empty where all is well."""


class Commit(Message, frozen=True, kw_only=True):
    """One transaction. A put replaces the record of the same id; deleting what is not there is no error."""

    put_sandboxes: tuple[Sandbox, ...] = ()
    put_containers: tuple[Container, ...] = ()
    put_images: tuple[Image, ...] = ()
    begin: tuple[Intent, ...] = ()
    delete_sandboxes: tuple[SandboxId, ...] = ()
    delete_containers: tuple[ContainerId, ...] = ()
    """Their exits go with them."""
    delete_images: tuple[ImageId, ...] = ()
    end: tuple[str, ...] = ()
    """Ids of intents."""


class WorkerStatus(Message, frozen=True, kw_only=True):
    """A process of crisp, read from /proc and not from the table that made it."""

    name: str
    pid: int
    """0 while it is down."""
    uid: int
    capabilities: tuple[str, ...]
    """Effective, without CAP_."""
    seccomp: str
    """disabled, strict or filter."""
    no_new_privs: bool
    memory: int
    """PSS in bytes."""
    restarts: int
    uptime: float
    """Seconds."""
    state: str
    """ready, starting, held down."""
    reason: str = ""
    """Why it is held down."""


class Workers(Message, frozen=True, kw_only=True):
    workers: tuple[WorkerStatus, ...]


class RestartRequest(Message, frozen=True, kw_only=True):
    """A worker to end with SIGTERM and start again."""

    name: str


class Restarted(Message, frozen=True, kw_only=True):
    pid: int


class Reloaded(Message, frozen=True, kw_only=True):
    """What a new reading of the configuration changed."""

    changed: tuple[str, ...]
    """Keys, as `runtime.handlers`."""
    restarted: tuple[str, ...]
    """Workers that were started anew because of them."""


class Health(Message, frozen=True, kw_only=True):
    """Workers that are not ready, each with the reason; sent at once and then on each change."""

    down: dict[str, str]


LOAD = Method("load", Nothing, Snapshot, deadline=30)
COMMIT = Method("commit", Commit, Nothing, deadline=10)
"""All of it or none; on disk when the reply comes."""
WORKERS = Method("workers", Nothing, Workers, deadline=10)
RESTART = Method("restart", RestartRequest, Restarted, deadline=30)
"""Back once the new process is ready. NotFound for an unknown name."""
RELOAD = Method("reload", Nothing, Reloaded, deadline=120)
"""Read the configuration again, and start anew the workers that it concerns; back once they are ready.
InvalidInput or FailedPrecondition for one that cannot be: then nothing changes."""
WATCH_HEALTH = Method("watch_health", Nothing, Nothing, deadline=0, progress=Health, watch=True)
SHUTDOWN = Method("shutdown", Nothing, Nothing, deadline=10)
"""End every process of crisp in order; containers run on. The reply comes before the end."""

CONTRACT = Contract("supervisor", LOAD, COMMIT, WORKERS, RESTART, RELOAD, WATCH_HEALTH, SHUTDOWN)
