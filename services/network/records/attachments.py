"""Attachments: the configuration that plugins were run with, one file per sandbox, from before ADD until after DEL.

A file holds the configuration that ADD was run with, so that DEL after a restart, a reboot or a change of the
configuration undoes what was done and not what would be done now. A file without a result is an ADD that was cut off.
Only the network worker reads or writes the folder. Files are replaced whole but not synced: after a power loss the
namespace, its links and rules are gone with the kernel, and DEL runs with the current configuration if a file is
damaged.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from kernel.contracts.network import PortMapping
from kernel.errors import Corrupt, Internal
from kernel.host import files
from kernel.ids import SandboxId
from services.network.documents.conflist import Network

_FILE = re.compile(r"([0-9a-f]{64})\.json", re.ASCII)


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox's attachment to a network."""

    sandbox_id: SandboxId = msgspec.field(name="sandbox")
    interface: str
    """The name of the interface in the pod (CNI_IFNAME)."""
    network: Network
    arguments: str
    """CNI_ARGS."""
    runtime_config: dict[str, object]
    """The values of capabilities; each plugin gets those that it declares."""
    result: dict[str, object] | None = None
    """The result of the last plugin of the chain; None until ADD is done."""
    pod: str = ""
    """The pod's `namespace/name`, for people."""
    host_ports: tuple[PortMapping, ...] = ()
    """The mappings that crisp itself forwards; those that a plugin forwards are in `runtime_config`."""
    loopback_interface: str = msgspec.field(name="loopback_through", default="")
    """The interface that accepts packets from 127.0.0.1 because of this pod's host ports; empty if none does."""
    boot: str = ""
    """The id of the boot in which it was made."""
    undoing: bool = False
    """Whether DEL has begun: from then on the pod has no address and no port."""

    def every_port(self) -> tuple[PortMapping, ...]:
        """Return its port mappings, whether crisp forwards them or a plugin."""
        passed = self.runtime_config.get("portMappings")
        by_plugin = (
            PortMapping(
                protocol=each["protocol"],
                container_port=each["containerPort"],
                host_port=each["hostPort"],
                host_ip=each["hostIP"],
            )
            for each in (passed if isinstance(passed, list) else ())
        )
        return (*self.host_ports, *by_plugin)


class Attachments:
    """The folder of attachments."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, sandbox_id: SandboxId) -> Attachment | None:
        """Return the sandbox's attachment, None if it has none. Corrupt if its file is damaged."""
        path = self._path(sandbox_id)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Attachment)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, RecursionError) as error:
            raise Corrupt(f"attachment {path} cannot be parsed: {error}") from error
        except OSError as error:
            raise Internal(f"attachment {path} cannot be read: {error.strerror}") from error

    def save(self, attachment: Attachment) -> None:
        """Write the attachment, whole or not at all. Internal if it cannot be written."""
        path = self._path(attachment.sandbox_id)
        try:
            files.replace(path, msgspec.json.encode(attachment), durable=False)
        except OSError as error:
            raise Internal(f"attachment {path} cannot be written: {error.strerror}") from error

    def remove(self, sandbox_id: SandboxId) -> None:
        """Remove the sandbox's files; succeeds if there are none."""
        path = self._path(sandbox_id)
        try:
            for each in (files.temporary(path), self.lock_path(sandbox_id), path):
                each.unlink(missing_ok=True)
        except OSError as error:
            raise Internal(f"attachment of {sandbox_id} cannot be removed: {error.strerror}") from error

    def lock_path(self, what: str) -> Path:
        """Return the path of the lock that running programs hold (`plugin_lock`): a sandbox's plugins, or others named
        `what`."""
        return self._folder / f"{what}.running"

    def sandboxes(self) -> tuple[SandboxId, ...]:
        """Return the ids of all sandboxes that have an attachment, damaged or not."""
        return tuple(
            sorted(SandboxId(match.group(1)) for name in os.listdir(self._folder) if (match := _FILE.fullmatch(name)))
        )

    def _path(self, sandbox_id: SandboxId) -> Path:
        return self._folder / f"{sandbox_id}.json"
