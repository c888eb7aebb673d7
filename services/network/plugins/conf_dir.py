"""The folder of network configurations: which network pods join now, and whether it is ready.

Other programs write these files, and one may be read half-written: a file that was valid once and is not now keeps its
last valid content until it is valid again or gone. A file counts only if it is a plain file that only root can have
written. Runs on the event loop; `render` blocks.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec

from kernel.contracts.network import Readiness
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.host import files
from services.network.documents import conf_template, conflist
from services.network.documents.conflist import Network
from services.network.plugins.folder_watch import FolderWatch

_REASON = "NetworkPluginNotReady"
_LOG = logging.getLogger(__name__)
_Signature = tuple[int, int, int, int, int]


class _ConfFile(msgspec.Struct, frozen=True):
    """A configuration file as it was when it was last read."""

    signature: _Signature
    valid: Network | None
    """The last valid content."""
    problem: str
    """Why the present content is not valid; empty if it is."""


class ConfDir:
    """The configurations in `network.config_dir`, read again when they change."""

    def __init__(
        self,
        folder: Path,
        default_network: str,
        plugin_dirs: tuple[str, ...],
        missing: Callable[[Network], tuple[str, ...]],
    ) -> None:
        """`missing`: returns the names of a network's plugins that are not installed in `plugin_dirs`."""
        self._folder = folder
        self._default = default_network
        self._plugin_dirs = plugin_dirs
        self._missing = missing
        self._files: dict[str, _ConfFile] = {}
        self._status: tuple[Network | None, str] = (None, "")
        """The last report of STATUS: the network, and why it is not ready; empty if it is."""
        self._usable: Network | None = None
        self._readiness = self._read()
        self._changed = asyncio.Event()
        self._network_changed = asyncio.Event()
        self._watch = FolderWatch([folder, *map(Path, plugin_dirs)], self._refresh)

    def close(self) -> None:
        """Stop watching the folder."""
        self._watch.close()

    def readiness(self) -> Readiness:
        """Return CRI's NetworkReady from the folder as it is now."""
        self._refresh()
        return self._readiness

    def network(self) -> Network:
        """Return the network that a pod joins now. The text of FailedPrecondition is why there is none."""
        self._refresh()
        network = self.usable()
        if network is None:
            raise FailedPrecondition(self._readiness.message)
        return network

    def usable(self) -> Network | None:
        """Return the default network if its plugins were installed when the folder was last read."""
        return self._usable

    def known(self) -> Network | None:
        """Return the default network, whether its plugins are installed or not."""
        valid = [file.valid for _, file in sorted(self._files.items()) if file.valid]
        return conflist.choose(valid, self._default)

    def set_status(self, network: Network, reason: str) -> None:
        """Record the report of STATUS about a network: `reason` is why it is not ready; empty if it is."""
        self._status = (network, reason)
        self._refresh()

    def render(self, template: str, pod_cidrs: Sequence[str]) -> None:
        """Write the configuration that is made from the file `template` and these CIDRs.

        Does nothing without a template or CIDRs, or if there is a configuration not made of a template. Blocks.
        FailedPrecondition if it cannot be done.
        """
        own = {self._folder / name for name in conf_template.FILES}
        others = [path for path in self._folder.glob("*") if path.suffix in conflist.SUFFIXES and path not in own]
        if not template or not pod_cidrs or others:
            return
        try:
            name, content = conf_template.render(_read_trusted(Path(template)), template, pod_cidrs)
            path = self._folder / name
            if path.is_file() and path.read_bytes() == content:
                return
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            files.replace(path, content, durable=False, mode=0o644)
            for old in own - {path}:
                old.unlink(missing_ok=True)
        except InvalidInput as error:
            raise FailedPrecondition(error.message, hint=error.hint) from error
        except OSError as error:
            raise FailedPrecondition(
                f"network.config_template: {error.filename}: {error.strerror}", hint="give its path, and make it root's"
            ) from error
        _LOG.info("network configuration %s is written for %s", path, ", ".join(pod_cidrs))

    async def wait_for_other_network(self, known: Network | None) -> None:
        """Wait until the usable network is another than `known`, or there is none."""
        while self.usable() == known:
            await self._network_changed.wait()

    async def changes(self) -> AsyncIterator[Readiness]:
        """Yield the readiness now, then each change."""
        reported: Readiness | None = None
        while True:
            changed = self._changed
            if reported != self._readiness:
                reported = self._readiness
                yield reported
            else:
                await changed.wait()

    def _refresh(self) -> None:
        before = self._usable
        readiness = self._read()
        if readiness != self._readiness or self._usable != before:
            self._network_changed.set()
            self._network_changed = asyncio.Event()
        if readiness != self._readiness:
            self._readiness = readiness
            _LOG.info("network: %s", "ready" if readiness.ready else f"not ready: {readiness.message}")
            self._changed.set()
            self._changed = asyncio.Event()

    def _read(self) -> Readiness:
        self._files, self._usable = self._read_files(), None
        network = self.known()
        if network is None:
            return _not_ready(self._why_none())
        if missing := self._missing(network):
            return _not_ready(
                f"plugin {', '.join(missing)} of network {network.name} is in none of {', '.join(self._plugin_dirs)}"
            )
        self._usable = network
        reported, reason = self._status
        if reason and reported == network:
            return _not_ready(reason)
        return Readiness(ready=True)

    def _why_none(self) -> str:
        problems = [file.problem for _, file in sorted(self._files.items()) if file.problem]
        if problems:
            return "; ".join(problems[:3])
        if self._default and self._files:
            return f"no CNI configuration in {self._folder}/ is of a network named {self._default!r}"
        return f"No CNI configuration file in {self._folder}/. Has your network provider started?"

    def _read_files(self) -> dict[str, _ConfFile]:
        try:
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(conflist.SUFFIXES))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            _LOG.warning("network configurations in %s cannot be listed: %s", self._folder, error.strerror)
            return self._files
        return {name: file for name in names if (file := self._read_file(name)) is not None}

    def _read_file(self, name: str) -> _ConfFile | None:
        """Return the file, read again if it has changed; None if it is gone."""
        path, before = self._folder / name, self._files.get(name)
        signature: _Signature = (0, 0, 0, 0, 0)
        try:
            signature = _signature(path.lstat())
            if before and before.signature == signature:
                return before
            network = conflist.parse(_read_trusted(path), str(path))
        except FileNotFoundError:
            return None
        except (InvalidInput, OSError) as error:
            problem = str(error) if isinstance(error, InvalidInput) else f"{path}: {error.strerror}"
            _LOG.warning("network configuration ignored: %s", problem)
            return _ConfFile(signature, before.valid if before else None, problem)
        return _ConfFile(signature, network, "")


def _read_trusted(path: Path) -> bytes:
    try:
        return files.read_trusted(path, conflist.MAX_BYTES, owners=(0, os.geteuid()), group_may_write=True)
    except files.NotTrusted as error:
        raise InvalidInput(
            f"{path}: {error.reason}", hint="it must be a plain file of root's with mode 0644"
        ) from error


def _signature(status: os.stat_result) -> _Signature:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)


def _not_ready(reason: str) -> Readiness:
    return Readiness(ready=False, reason=_REASON, message=f"Network plugin returns error: {reason}")
