"""ADD and DEL of a network's chain of plugins, as the CNI specification's section 3 and 4 say.

Each plugin runs for at most the configured time, within the caller's deadline, as a process of its own. What a
plugin says becomes `plugin NAME: message; details`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kernel.errors import CrispError, DeadlineExceeded, FailedPrecondition, Internal
from kernel.host.aio import Deadline
from kernel.host.process import ENVIRONMENT, describe
from services.network import conflist, plugin_process, result, running
from services.network.attachments import Attachment
from services.network.conflist import Network, Plugin

INTERFACE = "eth0"
"""The pod's interface, as with the peers."""


class Chain:
    """Runs networks' plugins from the folders given."""

    def __init__(self, folders: Sequence[str], timeout: float) -> None:
        self._folders = tuple(folders)
        self._timeout = timeout

    def missing(self, network: Network) -> tuple[str, ...]:
        """Programs of the network that lie in none of the folders."""
        return tuple(name for name in network.binaries() if self._find(name) is None)

    async def add(self, attachment: Attachment, netns: Path, mark: Path, deadline: Deadline) -> dict[str, object]:
        """Run ADD in order, each with the result of the one before; the last result."""
        network, previous = attachment.network, None
        with running.mark(mark) as fd:
            for plugin in network.plugins:
                answer = await self._run("ADD", attachment, plugin, str(netns), previous, deadline, fd)
                try:
                    previous = result.parse(answer, network.cni_version)
                except Internal as error:
                    raise _said("ADD", attachment, plugin, error.message) from error
        assert previous is not None  # a network has a plugin
        return previous

    async def delete(self, attachment: Attachment, netns: str, mark: Path, deadline: Deadline) -> None:
        """Run DEL in reverse order; `netns` is empty where the namespace is gone.

        A plugin that fails does not keep the others from their DEL, so that the most is undone; its error is
        raised in the end.
        """
        failed: CrispError | None = None
        previous = attachment.result if attachment.network.cni_version >= "0.4.0" else None
        with running.mark(mark) as fd:
            for plugin in reversed(attachment.network.plugins):
                try:
                    await self._run("DEL", attachment, plugin, netns, previous, deadline, fd)
                except CrispError as error:
                    failed = failed or error
        if failed is not None:
            raise failed

    async def _run(
        self,
        command: str,
        attachment: Attachment,
        plugin: Plugin,
        netns: str,
        previous: Mapping[str, object] | None,
        deadline: Deadline,
        mark: int,
    ) -> bytes:
        """One plugin's answer; an error of ours where it failed."""
        binary = self._find(plugin.type)
        if binary is None:
            raise FailedPrecondition(f"plugin {plugin.type}: is in none of {', '.join(self._folders)}")
        try:
            answer = await plugin_process.run(
                binary,
                conflist.stdin(attachment.network, plugin, attachment.runtime_config, previous),
                {
                    **ENVIRONMENT,
                    "CNI_COMMAND": command,
                    "CNI_CONTAINERID": attachment.sandbox,
                    "CNI_NETNS": netns,
                    "CNI_IFNAME": attachment.interface,
                    "CNI_ARGS": attachment.arguments,
                    "CNI_PATH": ":".join(self._folders),
                },
                deadline=deadline.earlier(self._timeout),
                mark=mark,
            )
        except DeadlineExceeded as error:
            raise DeadlineExceeded(_line(command, attachment, plugin, error.message)) from error
        if len(answer.stdout) > plugin_process.OUTPUT_LIMIT:
            raise _said(command, attachment, plugin, f"answered more than {plugin_process.OUTPUT_LIMIT} bytes")
        if failure := result.failure(answer.stdout):
            raise _said(command, attachment, plugin, failure.text())
        if answer.returncode:
            words = (answer.stderr or answer.stdout).decode(errors="replace").strip()[-2000:]
            raise _said(command, attachment, plugin, f"{describe(answer.returncode)}: {words or 'it said nothing'}")
        return answer.stdout

    def _find(self, name: str) -> str | None:
        candidates = (f"{folder}/{name}" for folder in self._folders)
        return next((path for path in candidates if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def _said(command: str, attachment: Attachment, plugin: Plugin, words: str) -> Internal:
    return Internal(_line(command, attachment, plugin, words))


def _line(command: str, attachment: Attachment, plugin: Plugin, words: str) -> str:
    return f"plugin {plugin.type}: {words} ({command} for network {attachment.network.name})"
