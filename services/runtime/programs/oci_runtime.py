"""The OCI runtime (runc or crun) as a program: its command lines, its state folder, its answers and errors.

Run by the runtime worker. conmon runs its command `create`, sessions its `exec`; the others are run here. Each
configured handler has a state folder (--root) of its own, so that two daemons never see each other's containers.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from kernel.config.sections import Config
from kernel.contracts.runtime import HandlerFact
from kernel.errors import Internal
from kernel.host import process
from kernel.host.aio import Deadline

_LOG_LIMIT = 64 << 10
"""Bytes of a log that are read."""
State = Literal["creating", "created", "running", "paused", "stopped", "gone"]
"""A state of the OCI runtime specification (runtime.md, State), or paused; gone: the runtime has no such container."""


class _LogLine(msgspec.Struct):
    """A line of a log in JSON."""

    level: str = ""
    msg: str = ""


class _StateReply(msgspec.Struct):
    """The output of `state`."""

    status: State
    pid: int = 0


class _LinuxFeatures(msgspec.Struct):
    """`linux` in the output of `features` (features-linux.md)."""

    namespaces: list[str] = []


class _Features(msgspec.Struct):
    """The output of `features` (features.md)."""

    mount_options: list[str] = msgspec.field(name="mountOptions", default_factory=list)
    linux: _LinuxFeatures = msgspec.field(default_factory=_LinuxFeatures)


class OciRuntime:
    """One runtime handler.

    `systemd`: whether containers get their cgroups from systemd.
    """

    def __init__(self, name: str, config: Config, *, systemd: bool) -> None:
        handler = config.runtime.handlers[name]
        self.name = name
        self.settings = handler
        self.path = handler.path
        self.root = Path(handler.root) if handler.root else config.paths.run / f"{name}-state"
        self.systemd = systemd
        self._fact: tuple[int, HandlerFact] | None = None

    def global_arguments(self, log: Path | None = None) -> list[str]:
        """Return the options before the command, for every program that runs it. `log`: a file for errors, in JSON."""
        arguments = [f"--root={self.root}"]
        if log is not None:
            arguments += [f"--log={log}", "--log-format=json"]
        return arguments

    def command(self, *words: str, log: Path | None = None) -> list[str]:
        """Return a whole command line."""
        systemd = ["--systemd-cgroup"] if self.systemd else []
        return [self.path, *self.global_arguments(log), *systemd, *words]

    async def start(self, container_id: str, log: Path, deadline: Deadline) -> None:
        """Let a created container's process run; Internal with the error in `log` if that fails."""
        # its errors are in its log: without pipes to read, it is done some milliseconds earlier
        started = process.launch(self.command("start", container_id, log=log))
        async with process.ended_with_body(started), deadline.limit(f"container {container_id}: start"):
            code = await started.wait()
        if code:
            raise Internal(error_text(log) or f"{self.path} start {container_id}: {process.describe(code)}")

    async def state(self, container_id: str, deadline: Deadline) -> State:
        """Return a container's state as the runtime reports it."""
        done = await process.run(self.command("state", container_id), deadline=deadline)
        if done.returncode:
            return "gone"
        try:
            return msgspec.json.decode(done.stdout, type=_StateReply).status
        except msgspec.DecodeError as error:
            raise Internal(f"{self.path} state: its output cannot be read: {error}") from error

    async def pause(self, container_id: str, deadline: Deadline) -> None:
        """Freeze all of a container's processes."""
        await self._do("pause", container_id, deadline)

    async def resume(self, container_id: str, deadline: Deadline) -> None:
        """Let a frozen container's processes run on."""
        await self._do("resume", container_id, deadline)

    async def _do(self, command: str, container_id: str, deadline: Deadline) -> None:
        done = await process.run(self.command(command, container_id), deadline=deadline)
        if done.returncode:
            raise Internal(f"{self.path} {command}: {done.stderr.decode(errors='replace').strip()[-512:]}")

    async def update(self, container_id: str, resources: bytes, file: Path, deadline: Deadline) -> None:
        """Give a container other limits: OCI `linux.resources` as JSON, which is passed in `file`."""
        file.write_bytes(resources)
        done = await process.run(self.command("update", "--resources", str(file), container_id), deadline=deadline)
        if done.returncode:
            raise Internal(f"{self.path} update {container_id}: {done.stderr.decode(errors='replace').strip()[-512:]}")

    async def delete(self, container_id: str, deadline: Deadline) -> None:
        """Kill and forget a container, whether all or only a part of it exists."""
        await process.run(self.command("delete", "--force", container_id), deadline=deadline)
        self.forget(container_id)

    def forget(self, container_id: str) -> None:
        """Remove the runtime's state of a container whose processes and cgroup are gone."""
        with suppress(FileNotFoundError):  # there is no state yet
            shutil.rmtree(self.root / container_id)

    async def fact(self, deadline: Deadline) -> HandlerFact | None:
        """Return version and features; None if the binary is missing. It is run again only after it has changed."""
        try:
            changed = Path(self.path).stat().st_mtime_ns
        except OSError:  # missing, or in a folder that cannot be entered
            return None
        if self._fact is None or self._fact[0] != changed:
            printed = await process.run([self.path, "--version"], deadline=deadline)
            version = printed.stdout.decode(errors="replace").partition("\n")[0].rpartition(" ")[2]
            listed = await process.run([self.path, "features"], deadline=deadline)
            self._fact = (
                changed,
                HandlerFact(
                    name=self.name, version=version, recursive_read_only_mounts=_has_rro(listed.stdout),
                    user_namespaces=_has_user_namespaces(printed.stdout, listed.stdout),
                ),
            )  # fmt: skip
        return self._fact[1]


def error_text(log: Path) -> str:
    """Return the last error message in a log in JSON; empty if there is none."""
    try:
        with log.open("rb") as file:
            content = file.read(_LOG_LIMIT)
    except OSError:  # the runtime wrote none
        return ""
    text = ""
    for line in content.splitlines():
        with suppress(msgspec.DecodeError):  # an unfinished line
            entry = msgspec.json.decode(line, type=_LogLine)
            text = entry.msg if entry.level in ("error", "fatal") else text
    return text.strip()


def _has_rro(features: bytes) -> bool:
    """Return whether the runtime can make a mount read-only with all mounts below it (mount option rro)."""
    try:
        return "rro" in msgspec.json.decode(features, type=_Features).mount_options
    except msgspec.DecodeError:  # a runtime without the command `features`
        return False


def _has_user_namespaces(version: bytes, features: bytes) -> bool:
    """Return whether the runtime can use user namespaces.

    crun could for years before it had the command `features`.
    """
    try:
        return "user" in msgspec.json.decode(features, type=_Features).linux.namespaces
    except msgspec.DecodeError:
        return version.startswith(b"crun ")
