"""The folders in which the worker keeps pods and containers: one per pod and one per container, below
`Paths.runtime_state`.

    pods/ID/pod.json  ns/{ipc,uts,user,net}  shm/  resolv.conf  hostname  pause/
    containers/ID/request.json  state.json  config.json  pidfile  conmon.pid  exit/ID  oom  ctl  attach  runtime.log
    containers/ID/checkpoint.json     while the container may be frozen for a checkpoint
    containers/ID/session-ID.pid      pid of an exec session's command, while it runs
    reaper, tty-*                     sockets: the reaper's, and of terminals on their way from the OCI runtime
    mounts/ID/N                       id-mapped copies of a container's volumes; not in its bundle, because a bundle is
                                      deleted with everything in it

Everything here blocks. Each JSON file is replaced whole, and not synced: a reboot empties /run, and the tree with it.
A file that cannot be read costs its own pod or container only.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Generic, Literal, TypeVar

import msgspec

from kernel.contracts.runtime import Created, CreateRequest, PodRequest
from kernel.errors import CrispError, from_os
from kernel.host import files
from kernel.host.pidfd import Identity
from kernel.ids import ContainerId, SandboxId, container_id, sandbox_id

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_LIMIT = 16 << 20
"""Bytes of a JSON file that are read at most."""
_EXIT_LIMIT = 16
"""Bytes of an exit file that are read at most."""
_REMOVALS = 1000
"""Most repetitions of the removal of a bundle, while another process still writes into it."""


class PodRecord(msgspec.Struct, frozen=True, kw_only=True):
    """pod.json: written before the first part of the pod is made."""

    request: PodRequest
    cgroup: str
    """The pod's cgroup by name: a path from the root of the hierarchy, or a slice of systemd."""
    made: bool = False
    """Whether every part of the pod has been made."""
    pause: Identity | None = None
    """The pause process; None if the pod never had one."""


class ContainerState(msgspec.Struct, frozen=True, kw_only=True):
    """state.json: how far a container has come."""

    phase: Literal["creating", "created", "starting", "started"]
    sandbox_id: SandboxId = msgspec.field(name="sandbox")
    handler: str
    cgroup: str
    conmon_cgroup: str
    inner_cgroup: str = ""
    """The cgroup that holds processes and limits, if the OCI runtime made another one inside: crun does in scopes."""
    poststop: bool = False
    """Whether the OCI runtime has hooks to run when the container is removed."""
    oom_kills_before: int = 0
    """Out-of-memory kills that the pod's cgroup had counted, before this one, for containers that were gone."""
    process: Identity | None = None
    """The container's first process; None if there is none yet."""
    conmon: Identity | None = None
    created: Created | None = None
    """The reply to its creation; None while it is being created."""
    restores: bool = False
    """Whether its start makes its processes, from a checkpoint."""
    started_at: int = 0
    """Nanoseconds since 1970; 0 before the start."""

    @property
    def limits_cgroup(self) -> str:
        """The cgroup that has the container's limits and counts its usage."""
        return self.inner_cgroup or self.cgroup


class CheckpointMark(msgspec.Struct, frozen=True, kw_only=True):
    """checkpoint.json: written before the container is frozen, deleted once it runs on."""

    location: str
    """The path at which the archive was to be written."""


class Record(Generic[_T]):
    """A JSON file that holds one structure."""

    def __init__(self, path: Path, kind: type[_T]) -> None:
        self._path = path
        self._kind = kind

    def write(self, value: _T) -> None:
        """Replace the file with one that holds `value`; ResourceExhausted or Internal if it cannot be written."""
        try:
            files.replace(self._path, msgspec.json.encode(value), durable=False)
        except OSError as error:
            raise from_os(error, f"{self._path} cannot be written") from error

    def exists(self) -> bool:
        """Return whether the file is there, damaged or not."""
        return self._path.exists()

    def remove(self) -> None:
        """Delete the file; none is success."""
        self._path.unlink(missing_ok=True)

    def read(self) -> _T | None:
        """Return the content of the file; None if it is missing or damaged, which is logged."""
        try:
            return msgspec.json.decode(files.read_plain(self._path, _LIMIT), type=self._kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            _LOG.warning("%s cannot be read: %s", self._path, error)
            return None


class PodBundle:
    """A pod's folder. Its parts are properties, because such an object is made for every call."""

    def __init__(self, root: Path, sandbox_id: SandboxId) -> None:
        self.path = root / "pods" / sandbox_id

    @property
    def record(self) -> Record[PodRecord]:
        """The pod's request, and how far the pod has come."""
        return Record(self.path / "pod.json", PodRecord)

    @property
    def ipc(self) -> Path:
        return self.path / "ns" / "ipc"

    @property
    def uts(self) -> Path:
        return self.path / "ns" / "uts"

    @property
    def user(self) -> Path:
        return self.path / "ns" / "user"

    @property
    def net(self) -> Path:
        return self.path / "ns" / "net"

    @property
    def shm(self) -> Path:
        return self.path / "shm"

    @property
    def resolv_conf(self) -> Path:
        return self.path / "resolv.conf"

    @property
    def hostname(self) -> Path:
        return self.path / "hostname"

    @property
    def pause(self) -> Path:
        return self.path / "pause"


class ContainerBundle:
    """A container's folder, which is its OCI bundle too."""

    def __init__(self, root: Path, container_id: ContainerId) -> None:
        self.path = root / "containers" / container_id
        self.id = container_id

    @property
    def request(self) -> Record[CreateRequest]:
        """The request that the container was made from."""
        return Record(self.path / "request.json", CreateRequest)

    @property
    def state(self) -> Record[ContainerState]:
        """The state of the container: how far it has come."""
        return Record(self.path / "state.json", ContainerState)

    @property
    def checkpoint(self) -> Record[CheckpointMark]:
        """The mark that it may be frozen for a checkpoint."""
        return Record(self.path / "checkpoint.json", CheckpointMark)

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def pid_file(self) -> Path:
        return self.path / "pidfile"

    @property
    def conmon_pid_file(self) -> Path:
        return self.path / "conmon.pid"

    @property
    def exit_dir(self) -> Path:
        return self.path / "exit"

    @property
    def exit_file(self) -> Path:
        return self.path / "exit" / self.id

    @property
    def oom(self) -> Path:
        return self.path / "oom"

    @property
    def control(self) -> Path:
        return self.path / "ctl"

    @property
    def attach(self) -> Path:
        return self.path / "attach"

    @property
    def runtime_log(self) -> Path:
        return self.path / "runtime.log"

    def exit(self) -> tuple[int, int] | None:
        """Return the exit code and the time of the exit (nanoseconds since 1970) as conmon left them; None if it left
        none."""
        try:
            text = files.read_plain(self.exit_file, _EXIT_LIMIT).strip()
            finished_at = self.exit_file.lstat().st_mtime_ns
        except OSError:  # missing, or no file that conmon wrote
            return None
        return (int(text), finished_at) if text.isdigit() and int(text) <= 255 else None

    def oom_killed(self) -> bool:
        """Return whether conmon has noted an out-of-memory kill."""
        return self.oom.exists()


def remove(path: Path) -> None:
    """Delete a bundle; none is success. Nothing may be mounted in it.

    Sessions that end delete their files in it, and the OCI runtime may still create one, so the folder can change
    while it is being deleted: then the deletion is repeated.
    """
    for left in reversed(range(_REMOVALS)):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            if not path.exists():
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not left:
                raise
        else:
            return


def pod_ids(root: Path) -> list[SandboxId]:
    """Return the ids of the pods that have a folder."""
    return [sandbox_id(name) for name in _names(root / "pods")]


def container_ids(root: Path) -> list[ContainerId]:
    """Return the ids of the containers that have a folder."""
    return [container_id(name) for name in _names(root / "containers")]


def _names(folder: Path) -> list[str]:
    found = []
    with suppress(FileNotFoundError):  # no pod or container was ever made
        for name in sorted(os.listdir(folder)):
            try:
                found.append(sandbox_id(name))
            except CrispError:
                _LOG.warning("%s is not a folder of crisp: left alone", folder / name)
    return [str(name) for name in found]
