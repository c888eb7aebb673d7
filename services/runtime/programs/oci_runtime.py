"""The OCI runtime (runc or crun) as a program: its command lines, its state folder and what its errors say.

Run by the runtime worker. `create` goes through conmon; `start` and `exec` are started here. Each configured
handler has a state folder (--root) of its own, so that two daemons never see each other's containers.
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
State = Literal["creating", "created", "running", "paused", "stopped", "gone"]


class _LogLine(msgspec.Struct):
    level: str = ""
    msg: str = ""


class _StateReply(msgspec.Struct):
    status: State
    pid: int = 0


class _LinuxFeatures(msgspec.Struct):
    namespaces: list[str] = []


class _Features(msgspec.Struct):
    mount_options: list[str] = msgspec.field(name="mountOptions", default_factory=list)
    linux: _LinuxFeatures = msgspec.field(default_factory=_LinuxFeatures)


class OciRuntime:
    """One runtime handler."""

    def __init__(self, name: str, config: Config, *, systemd: bool) -> None:
        handler = config.runtime.handlers[name]
        self.name = name
        self.settings = handler
        self.path = handler.path
        self.root = Path(handler.root) if handler.root else config.paths.run / f"{name}-state"
        self.systemd = systemd
        self._fact: tuple[int, HandlerFact] | None = None

    def global_arguments(self, log: Path | None = None) -> list[str]:
        """What comes before the command, also when conmon runs it."""
        arguments = [f"--root={self.root}"]
        if log is not None:
            arguments += [f"--log={log}", "--log-format=json"]
        return arguments

    def command(self, *words: str, log: Path | None = None) -> list[str]:
        """A whole command line."""
        systemd = ["--systemd-cgroup"] if self.systemd else []
        return [self.path, *self.global_arguments(log), *systemd, *words]

    async def start(self, container: str, log: Path, deadline: Deadline) -> None:
        """Let a created container's process run; Internal with the runtime's own words."""
        # its words are in its log: without pipes to read, the answer comes some milliseconds earlier
        started = process.launch(self.command("start", container, log=log))
        try:
            async with deadline.limit(f"container {container}: start"):
                code = await started.wait()
        finally:
            if started.returncode is None:
                process.kill_group(started)
                await started.wait()
        if code:
            raise Internal(error_text(log) or f"{self.path} start {container}: {process.describe(code)}")

    async def state(self, container: str, deadline: Deadline) -> State:
        """What the runtime says of a container; gone where it knows none."""
        done = await process.run(self.command("state", container), deadline=deadline)
        if done.returncode:
            return "gone"
        try:
            return msgspec.json.decode(done.stdout, type=_StateReply).status
        except msgspec.DecodeError as error:
            raise Internal(f"{self.path} state: its answer does not read: {error}") from error

    async def pause(self, container: str, deadline: Deadline) -> None:
        """Freeze all of a container's processes."""
        await self._do("pause", container, deadline)

    async def resume(self, container: str, deadline: Deadline) -> None:
        """Let a frozen container's processes run on."""
        await self._do("resume", container, deadline)

    async def _do(self, command: str, container: str, deadline: Deadline) -> None:
        done = await process.run(self.command(command, container), deadline=deadline)
        if done.returncode:
            raise Internal(f"{self.path} {command}: {done.stderr.decode(errors='replace').strip()[-512:]}")

    async def update(self, container: str, resources: bytes, file: Path, deadline: Deadline) -> None:
        """Give a container other limits (OCI `linux.resources` as JSON, passed in `file`)."""
        file.write_bytes(resources)
        done = await process.run(self.command("update", "--resources", str(file), container), deadline=deadline)
        if done.returncode:
            raise Internal(f"{self.path} update {container}: {done.stderr.decode(errors='replace').strip()[-512:]}")

    async def delete(self, container: str, deadline: Deadline) -> None:
        """Kill and forget a container, whatever is there of it."""
        await process.run(self.command("delete", "--force", container), deadline=deadline)
        self.forget(container)

    def forget(self, container: str) -> None:
        """Remove the runtime's state of a container whose processes and cgroup are gone."""
        with suppress(FileNotFoundError):  # it never came to a state
            shutil.rmtree(self.root / container)

    async def fact(self, deadline: Deadline) -> HandlerFact | None:
        """Version and features; None where the binary is missing. Asked again only when the binary changed."""
        try:
            changed = Path(self.path).stat().st_mtime_ns
        except OSError:  # missing, or not to be reached: not there
            return None
        if self._fact is None or self._fact[0] != changed:
            said = await process.run([self.path, "--version"], deadline=deadline)
            version = said.stdout.decode(errors="replace").partition("\n")[0].rpartition(" ")[2]
            listed = await process.run([self.path, "features"], deadline=deadline)
            self._fact = (
                changed,
                HandlerFact(
                    name=self.name, version=version, recursive_read_only_mounts=_knows_rro(listed.stdout),
                    user_namespaces=_knows_user_namespaces(said.stdout, listed.stdout),
                ),
            )  # fmt: skip
        return self._fact[1]


def error_text(log: Path) -> str:
    """The last error in the runtime's JSON log, in its own words; empty where there is none."""
    try:
        with log.open("rb") as file:
            content = file.read(_LOG_LIMIT)
    except OSError:  # none was written
        return ""
    text = ""
    for line in content.splitlines():
        with suppress(msgspec.DecodeError):  # a line that was not finished
            entry = msgspec.json.decode(line, type=_LogLine)
            text = entry.msg if entry.level in ("error", "fatal") else text
    return text.strip()


def _knows_rro(features: bytes) -> bool:
    try:
        return "rro" in msgspec.json.decode(features, type=_Features).mount_options
    except msgspec.DecodeError:  # a runtime without the command `features`
        return False


def _knows_user_namespaces(version: bytes, features: bytes) -> bool:
    """By the runtime's own features; crun had them for years before it had the command `features`."""
    try:
        return "user" in msgspec.json.decode(features, type=_Features).linux.namespaces
    except msgspec.DecodeError:
        return version.startswith(b"crun ")
