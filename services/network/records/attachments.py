"""What was asked of plugins, one file per sandbox: written before the first plugin runs, gone after DEL.

It holds the configuration that ADD was run with, so that DEL after a restart, a reboot or a change of the
configuration undoes what was done and not what would be done now. A file without a result is an ADD cut off.
Only the network worker reads or writes the folder. Renamed into place but not synced: after a power loss the
namespace, its links and rules are gone with the kernel, and a damaged file is met with the current configuration.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from kernel.contracts.network import PortMapping
from kernel.errors import Corrupt, Internal
from kernel.ids import SandboxId
from services.network.documents.conflist import Network

_FILE = re.compile(r"([0-9a-f]{64})\.json", re.ASCII)


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox on a network."""

    sandbox: SandboxId
    interface: str
    network: Network
    arguments: str
    """CNI_ARGS."""
    runtime_config: dict[str, object]
    """The values of capabilities, of which each plugin gets those that it declares."""
    result: dict[str, object] | None = None
    """The chain's last result; None until ADD is done."""
    pod: str = ""
    """Namespace and name, for people."""
    host_ports: tuple[PortMapping, ...] = ()
    """Those that crisp itself forwards; a plugin's are in `runtime_config`."""
    loopback_through: str = ""
    """The interface that takes packets from 127.0.0.1 for its host ports."""
    boot: str = ""
    """The boot that it was made in."""
    undoing: bool = False
    """DEL has been begun: nothing of it counts as the pod's any more."""

    def every_port(self) -> tuple[PortMapping, ...]:
        """Its host ports, whoever forwards them."""
        told = self.runtime_config.get("portMappings")
        of_plugin = (
            PortMapping(
                protocol=each["protocol"],
                container_port=each["containerPort"],
                host_port=each["hostPort"],
                host_ip=each["hostIP"],
            )
            for each in (told if isinstance(told, list) else ())
        )
        return (*self.host_ports, *of_plugin)


class Attachments:
    """The folder of attachments."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, sandbox: SandboxId) -> Attachment | None:
        """The sandbox's attachment, or None; Corrupt where its file does not read back."""
        path = self._path(sandbox)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Attachment)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, RecursionError) as error:
            raise Corrupt(f"attachment {path} does not read back: {error}") from error
        except OSError as error:
            raise Internal(f"attachment {path} cannot be read: {error.strerror}") from error

    def save(self, attachment: Attachment) -> None:
        """Write the attachment, whole or not at all."""
        path = self._path(attachment.sandbox)
        fresh = path.with_suffix(".new")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(attachment))
            fresh.rename(path)
        except OSError as error:
            raise Internal(f"attachment {path} cannot be written: {error.strerror}") from error

    def remove(self, sandbox: SandboxId) -> None:
        """Forget the sandbox; forgotten already is success."""
        try:
            for suffix in (".new", ".running", ".json"):
                self._path(sandbox).with_suffix(suffix).unlink(missing_ok=True)
        except OSError as error:
            raise Internal(f"attachment of {sandbox} cannot be removed: {error.strerror}") from error

    def mark(self, what: str) -> Path:
        """Where the mark of programs under way lies (`running.py`): a sandbox's plugins, or others by name."""
        return self._folder / f"{what}.running"

    def sandboxes(self) -> tuple[SandboxId, ...]:
        """Every sandbox that has an attachment, whole or not."""
        return tuple(
            sorted(SandboxId(match.group(1)) for name in os.listdir(self._folder) if (match := _FILE.fullmatch(name)))
        )

    def _path(self, sandbox: SandboxId) -> Path:
        return self._folder / f"{sandbox}.json"
