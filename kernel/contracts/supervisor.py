"""The supervisor: the only writer of the state on disk, and the keeper of the workers.

The front calls it for the state, the command line for the workers.
"""

from __future__ import annotations

from kernel.contracts.definition import Contract, Message, Method, Nothing
from kernel.contracts.records import Container, Exit, Gone, Image, Intent, Sandbox
from kernel.ids import ContainerId, ImageId, SandboxId


class Snapshot(Message, frozen=True, kw_only=True):
    """All records."""

    sandboxes: tuple[Sandbox, ...]
    containers: tuple[Container, ...]
    images: tuple[Image, ...]
    intents: tuple[Intent, ...]
    exits: tuple[Exit, ...]
    gone: tuple[Gone, ...] = ()
    """Records that were removed in the last minute, the earliest first."""
    damaged: str = ""
    """The reason why the state was rebuilt instead of read; empty if it was read."""


class Commit(Message, frozen=True, kw_only=True):
    """One transaction. Deleting a record that does not exist is no error."""

    put_sandboxes: tuple[Sandbox, ...] = ()
    """Sandboxes, each of which replaces the record of the same id. The next three fields are written the same way."""
    put_containers: tuple[Container, ...] = ()
    put_images: tuple[Image, ...] = ()
    begin: tuple[Intent, ...] = ()
    delete_sandboxes: tuple[SandboxId, ...] = ()
    delete_containers: tuple[ContainerId, ...] = ()
    """Ids of containers. Their exits are deleted with them."""
    delete_images: tuple[ImageId, ...] = ()
    end: tuple[str, ...] = ()
    """Ids of intents to delete."""


class WorkerStatus(Message, frozen=True, kw_only=True):
    """A process of crisp; its privileges are read from /proc, not from the table by which it was started."""

    name: str
    pid: int
    """0 while it is down."""
    uid: int
    capabilities: tuple[str, ...]
    """The effective capabilities, without `CAP_`."""
    seccomp: str
    """`disabled`, `strict` or `filter`."""
    no_new_privs: bool
    """Whether it and its children can gain no privileges by execve."""
    memory: int
    """Its proportional share of memory (PSS), in bytes; 0 if it could not be read."""
    restarts: int
    """The number of times that it was started again."""
    uptime: float
    """Seconds."""
    state: str
    """`ready`, `starting` or `held down`."""
    reason: str = ""
    """The reason why it is held down."""
    errors: int = 0
    """Background tasks of the process that failed because of the host or another process."""
    bugs: int = 0
    """Background tasks and callbacks of the process that a bug of crisp has ended."""


class Workers(Message, frozen=True, kw_only=True):
    """The processes of crisp."""

    workers: tuple[WorkerStatus, ...]
    """The supervisor and the spawner first."""


class RestartRequest(Message, frozen=True, kw_only=True):
    """A worker to restart."""

    name: str


class Restarted(Message, frozen=True, kw_only=True):
    """A worker that was restarted."""

    pid: int
    """Process id of the new process."""


class Reloaded(Message, frozen=True, kw_only=True):
    """The effects of a new configuration."""

    changed: tuple[str, ...]
    """Keys whose values have changed: `runtime.handlers`."""
    restarted: tuple[str, ...]
    """Workers that were restarted because of these keys."""


class Health(Message, frozen=True, kw_only=True):
    """The workers that are not ready."""

    down: dict[str, str]
    """The reason by the worker's name."""


LOAD = Method("load", Nothing, Snapshot, deadline=30)
"""Return all records."""
COMMIT = Method("commit", Commit, Nothing, deadline=10)
"""Write all of a transaction or nothing of it; it is on disk when the reply comes."""
WORKERS = Method("workers", Nothing, Workers, deadline=10)
"""List the processes of crisp."""
RESTART = Method("restart", RestartRequest, Restarted, deadline=30)
"""End a worker with SIGTERM and start it again; returns once the new process is ready. NotFound if there is no worker
of that name."""
RELOAD = Method("reload", Nothing, Reloaded, deadline=120)
"""Read the configuration again and restart the workers that it concerns; returns once they are ready. InvalidInput or
FailedPrecondition if it cannot be used: then nothing changes."""
WATCH_HEALTH = Method("watch_health", Nothing, Nothing, deadline=0, progress=Health, watch=True)
"""Report the workers that are not ready: at once, and then on each change."""
SHUTDOWN = Method("shutdown", Nothing, Nothing, deadline=10)
"""End every process of crisp in order; containers run on. The reply comes before the end."""

CONTRACT = Contract("supervisor", LOAD, COMMIT, WORKERS, RESTART, RELOAD, WATCH_HEALTH, SHUTDOWN)
