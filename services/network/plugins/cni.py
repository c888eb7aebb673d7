"""A network's chain of plugins: ADD, CHECK and DEL of a pod, STATUS and GC of the network.

The protocol is that of the CNI specification, sections 2 to 4. Each plugin runs as a process of its own, for at most
the configured time and within the caller's deadline. A plugin's error becomes `plugin NAME: message; details`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kernel.errors import CrispError, DeadlineExceeded, FailedPrecondition, Internal
from kernel.host.aio import Deadline
from kernel.host.process import ENVIRONMENT, describe
from kernel.ids import SandboxId
from services.network.documents import conflist, result
from services.network.documents.conflist import Network, Plugin
from services.network.plugins import plugin_lock, plugin_process
from services.network.records.attachments import Attachment

INTERFACE = "eth0"
"""The name of the interface in the pod; other runtimes use the same."""


class Chain:
    """Runs the plugins of networks."""

    def __init__(self, folders: Sequence[str], timeout: float) -> None:
        """`folders`: searched for plugins, in this order. `timeout`: seconds that one plugin may run."""
        self._folders = tuple(folders)
        self._timeout = timeout

    def missing(self, network: Network) -> tuple[str, ...]:
        """Return the names of the network's programs that are missing from all folders."""
        return tuple(name for name in network.binaries() if self._find(name) is None)

    async def add(self, attachment: Attachment, netns: Path, lock: Path, deadline: Deadline) -> dict[str, object]:
        """Run ADD of each plugin in order, each with the result of the one before; return the last result."""
        network, previous = attachment.network, None
        environment = self._environment("ADD", attachment, str(netns))
        with plugin_lock.hold(lock) as lock_fd:
            for plugin in network.plugins:
                stdin = conflist.stdin(network, plugin, attachment.runtime_config, previous)
                answer = await self._run(environment, network, plugin, stdin, deadline, lock, lock_fd)
                try:
                    previous = result.parse(answer, network.cni_version)
                    result.check_namespace(previous, str(netns))
                except Internal as error:
                    raise _failed("ADD", network, plugin, error.message) from error
        assert previous is not None  # a network has a plugin
        return previous

    async def check(self, attachment: Attachment, netns: Path, lock: Path, deadline: Deadline) -> None:
        """Run CHECK in order, unless the network does not support or disables it. Raises a plugin's first error."""
        network = attachment.network
        if not network.keeps_results or network.disable_check:
            return
        environment = self._environment("CHECK", attachment, str(netns))
        with plugin_lock.hold(lock) as lock_fd:
            for plugin in network.plugins:
                stdin = conflist.stdin(network, plugin, attachment.runtime_config, attachment.result)
                await self._run(environment, network, plugin, stdin, deadline, lock, lock_fd)

    async def delete(self, attachment: Attachment, netns: str, lock: Path, deadline: Deadline) -> None:
        """Run DEL in reverse order; `netns` is empty if the namespace is gone.

        If a plugin fails, the others still run their DEL, so that as much as possible is undone; the first error is
        raised in the end.
        """
        failed: CrispError | None = None
        network = attachment.network
        previous = attachment.result if network.keeps_results else None
        environment = self._environment("DEL", attachment, netns)
        with plugin_lock.hold(lock) as lock_fd:
            for plugin in reversed(network.plugins):
                stdin = conflist.stdin(network, plugin, attachment.runtime_config, previous)
                try:
                    await self._run(environment, network, plugin, stdin, deadline, lock, lock_fd)
                except CrispError as error:
                    failed = failed or error
        if failed is not None:
            raise failed

    async def status(self, network: Network, lock: Path, deadline: Deadline) -> None:
        """Run STATUS in order. Raises the error of the first plugin that is not ready for an ADD."""
        environment = self._environment("STATUS")
        with plugin_lock.hold(lock) as lock_fd:
            for plugin in network.plugins:
                await self._run(
                    environment, network, plugin, conflist.stdin(network, plugin, {}, None), deadline, lock, lock_fd
                )

    async def collect(self, network: Network, valid: Iterable[SandboxId], lock: Path, deadline: Deadline) -> None:
        """Run GC: each plugin frees what it holds for other sandboxes than `valid`.

        All plugins are run; the first error is raised in the end.
        """
        attached = [{"containerID": sandbox, "ifname": INTERFACE} for sandbox in valid]
        failed: CrispError | None = None
        environment = self._environment("GC")
        with plugin_lock.hold(lock) as lock_fd:
            for plugin in network.plugins:
                stdin = conflist.stdin(network, plugin, {}, None, {"cni.dev/valid-attachments": attached})
                try:
                    await self._run(environment, network, plugin, stdin, deadline, lock, lock_fd)
                except CrispError as error:
                    failed = failed or error
        if failed is not None:
            raise failed

    def _environment(self, command: str, attachment: Attachment | None = None, netns: str = "") -> dict[str, str]:
        environment = {**ENVIRONMENT, "CNI_COMMAND": command, "CNI_PATH": ":".join(self._folders)}
        if attachment is not None:
            environment |= {
                plugin_lock.CONTAINER_ID: attachment.sandbox_id,
                "CNI_NETNS": netns,
                "CNI_IFNAME": attachment.interface,
                "CNI_ARGS": attachment.arguments,
            }
        return environment

    async def _run(
        self,
        environment: Mapping[str, str],
        network: Network,
        plugin: Plugin,
        stdin: bytes,
        deadline: Deadline,
        lock: Path,
        lock_fd: int,
    ) -> bytes:
        """Run one plugin and return its answer. Internal if it fails, DeadlineExceeded if it hangs, FailedPrecondition
        if there is no such program."""
        command = environment["CNI_COMMAND"]
        binary = self._find(plugin.type)
        if binary is None:
            raise FailedPrecondition(f"plugin {plugin.type}: is in none of {', '.join(self._folders)}")
        try:
            answer = await plugin_process.run(
                binary, stdin, environment, deadline=deadline.earlier(self._timeout), lock_fd=lock_fd
            )
        except DeadlineExceeded as error:
            await asyncio.to_thread(plugin_lock.kill_holders, lock, environment.get(plugin_lock.CONTAINER_ID, ""))
            raise DeadlineExceeded(_line(command, network, plugin, error.message)) from error
        if len(answer.stdout) > plugin_process.OUTPUT_LIMIT:
            raise _failed(command, network, plugin, f"answered more than {plugin_process.OUTPUT_LIMIT} bytes")
        if failure := result.failure(answer.stdout):
            raise _failed(command, network, plugin, failure.text())
        if answer.returncode:
            output = (answer.stderr or answer.stdout).decode(errors="replace").strip()[-2000:]
            raise _failed(command, network, plugin, f"{describe(answer.returncode)}: {output or 'no output'}")
        return answer.stdout

    def _find(self, name: str) -> str | None:
        candidates = (f"{folder}/{name}" for folder in self._folders)
        return next((path for path in candidates if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def _failed(command: str, network: Network, plugin: Plugin, reason: str) -> Internal:
    return Internal(_line(command, network, plugin, reason))


def _line(command: str, network: Network, plugin: Plugin, reason: str) -> str:
    return f"plugin {plugin.type}: {reason} ({command} for network {network.name})"
