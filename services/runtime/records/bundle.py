"""What the worker keeps on disk: a folder per pod and per container below Paths.runtime_state.

    pods/ID/pod.json  ns/{ipc,uts,user,net}  shm/  resolv.conf  hostname  pause/
    containers/ID/request.json  state.json  config.json  pidfile  conmon.pid  exit/ID  oom  ctl  attach  runtime.log
    containers/ID/checkpoint.json  while it may be frozen for a checkpoint
    containers/ID/session-ID.pid  of an exec session's command while it runs
    reaper, tty-*  sockets: of the reaper, of terminals on their way from the OCI runtime
    mounts/ID/N   id-mapped copies of a container's volumes: apart, as a bundle is deleted with all that is in it

Files are written whole: temporary name, then rename. After a reboot the whole tree is gone with /run. A file that
does not read back costs only its own pod or container.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Generic, Literal, TypeVar

import msgspec

from kernel.contracts.runtime import Created, CreateRequest, PodRequest
from kernel.errors import CrispError
from kernel.host.pidfd import Identity
from kernel.ids import ContainerId, SandboxId, container_id, sandbox_id

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_LIMIT = 16 << 20
_REMOVALS = 1000


class PodRecord(msgspec.Struct, frozen=True, kw_only=True):
    """pod.json: written before the pod's first part is made."""

    request: PodRequest
    cgroup: str
    made: bool = False
    pause: Identity | None = None


class ContainerState(msgspec.Struct, frozen=True, kw_only=True):
    """state.json: how far a container has come."""

    phase: Literal["creating", "created", "starting", "started"]
    sandbox: SandboxId
    handler: str
    cgroup: str
    conmon_cgroup: str
    inner_cgroup: str = ""
    """Where processes and limits are, if the OCI runtime made another cgroup inside: crun does in scopes."""
    poststop: bool = False
    """Whether the OCI runtime has hooks to run at the container's removal."""
    oom_kills_before: int = 0
    """What the pod's cgroup had counted for containers that were gone already."""
    process: Identity | None = None
    conmon: Identity | None = None
    created: Created | None = None
    restores: bool = False
    """Whether its start makes its processes, from a checkpoint."""
    started_at: int = 0

    @property
    def limits_cgroup(self) -> str:
        """The cgroup that has the container's limits, and counts what it uses."""
        return self.inner_cgroup or self.cgroup


class CheckpointMark(msgspec.Struct, frozen=True, kw_only=True):
    """checkpoint.json: written before the container is frozen, deleted when it runs on."""

    location: str


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file as a whole."""
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        os.fchmod(fd, mode)
    temporary.rename(path)


class Record(Generic[_T]):
    """A JSON file that holds one structure."""

    def __init__(self, path: Path, kind: type[_T]) -> None:
        self._path = path
        self._kind = kind

    def write(self, value: _T) -> None:
        """Replace it."""
        write(self._path, msgspec.json.encode(value))

    def exists(self) -> bool:
        """Whether there is one, damaged or not."""
        return self._path.exists()

    def remove(self) -> None:
        """Delete it; gone already is success."""
        self._path.unlink(missing_ok=True)

    def read(self) -> _T | None:
        """What it holds; None where it is missing or does not read back."""
        try:
            content = _read(self._path, _LIMIT)
            return msgspec.json.decode(content, type=self._kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            _LOG.warning("%s does not read back: %s", self._path, error)
            return None


def _read(path: Path, limit: int) -> bytes:
    """A plain file's content; OSError for a link, a pipe or a folder in its place."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "is not a plain file", str(path))
        parts = []
        while limit > 0 and (part := os.read(fd, min(limit, 1 << 20))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


class PodBundle:
    """A pod's folder. Its parts are looked up when they are wanted: such a bundle is made for every call."""

    def __init__(self, root: Path, sandbox: SandboxId) -> None:
        self.path = root / "pods" / sandbox

    @property
    def record(self) -> Record[PodRecord]:
        """What it is made of, and how far it has come."""
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

    def __init__(self, root: Path, container: ContainerId) -> None:
        self.path = root / "containers" / container
        self._container = container

    @property
    def request(self) -> Record[CreateRequest]:
        """What it is made of."""
        return Record(self.path / "request.json", CreateRequest)

    @property
    def state(self) -> Record[ContainerState]:
        """How far it has come."""
        return Record(self.path / "state.json", ContainerState)

    @property
    def checkpoint(self) -> Record[CheckpointMark]:
        """Whether it may be frozen for a checkpoint."""
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
        return self.path / "exit" / self._container

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
        """Exit code and time (nanoseconds since 1970) as conmon left them; None where it left none."""
        try:
            text = _read(self.exit_file, 16).strip()
            finished_at = self.exit_file.lstat().st_mtime_ns
        except OSError:  # missing, or not a file of conmon's
            return None
        return (int(text), finished_at) if text.isdigit() and int(text) <= 255 else None

    def oom_killed(self) -> bool:
        """Whether conmon saw the kernel's out-of-memory killer at work."""
        return self.oom.exists()


def remove(path: Path) -> None:
    """Delete a bundle; gone already is success. Nothing may be mounted in it.

    The ends of sessions take away their files and the OCI runtime may still write one, both at the same time.
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


def pods(root: Path) -> list[SandboxId]:
    """The pods that have a folder."""
    return [sandbox_id(name) for name in _names(root / "pods")]


def containers(root: Path) -> list[ContainerId]:
    """The containers that have a folder."""
    return [container_id(name) for name in _names(root / "containers")]


def _names(folder: Path) -> list[str]:
    found = []
    with suppress(FileNotFoundError):  # nothing was ever made
        for name in sorted(os.listdir(folder)):
            try:
                found.append(sandbox_id(name))
            except CrispError:
                _LOG.warning("%s is not one of ours: left alone", folder / name)
    return [str(name) for name in found]
