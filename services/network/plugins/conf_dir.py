"""The folder of network configurations: which network pods join now, and whether it is ready.

Files are another program's work, seen half-written at times: a file that was good once and does not read now
keeps its last good content until it is good again or gone. Only regular files of root count.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec

from kernel.contracts.network import Readiness
from kernel.errors import FailedPrecondition, InvalidInput
from services.network.documents import conf_template, conflist
from services.network.documents.conflist import Network
from services.network.plugins.folder_watch import FolderWatch

_REASON = "NetworkPluginNotReady"
_LOG = logging.getLogger(__name__)
_Signature = tuple[int, int, int, int, int]


class _File(msgspec.Struct, frozen=True):
    """A file as it was when last read."""

    signature: _Signature
    good: Network | None
    problem: str


class ConfDir:
    """The configurations below `config.network.config_dir`, looked at anew where they changed."""

    def __init__(
        self,
        folder: Path,
        default_network: str,
        plugin_dirs: tuple[str, ...],
        missing: Callable[[Network], tuple[str, ...]],
    ) -> None:
        self._folder = folder
        self._default = default_network
        self._plugin_dirs = plugin_dirs
        self._missing = missing
        self._files: dict[str, _File] = {}
        self._trouble: tuple[Network | None, str] = (None, "")
        """What the plugins of a network said last of themselves."""
        self._usable: Network | None = None
        self._state = self._look()
        self._changed = asyncio.Event()
        self._looked = asyncio.Event()
        self._watch = FolderWatch([folder, *map(Path, plugin_dirs)], self._refresh)

    def close(self) -> None:
        """Stop noticing changes."""
        self._watch.close()

    def readiness(self) -> Readiness:
        """CRI's NetworkReady, from the folder as it is now."""
        self._refresh()
        return self._state

    def network(self) -> Network:
        """The network that a pod joins now; FailedPrecondition says why there is none."""
        self._refresh()
        network = self.usable()
        if network is None:
            raise FailedPrecondition(self._state.message)
        return network

    def usable(self) -> Network | None:
        """The default network, if its plugins were there when last looked."""
        return self._usable

    def tell(self, network: Network, trouble: str) -> None:
        """Take up what a network's plugins say of themselves; no trouble is good."""
        self._trouble = (network, trouble)
        self._refresh()

    def render(self, template: str, ranges: Sequence[str]) -> None:
        """Write the configuration that `template` becomes with these CIDRs, unless another than such a one is there.

        Blocks. FailedPrecondition where it cannot be.
        """
        ours = {self._folder / name for name in conf_template.FILES}
        others = [path for path in self._folder.glob("*") if path.suffix in conflist.SUFFIXES and path not in ours]
        if not template or not ranges or others:
            return
        try:
            name, made = conf_template.render(_bytes(Path(template)), template, ranges)
            path = self._folder / name
            if path.is_file() and path.read_bytes() == made:
                return
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            fresh = self._folder / f".{name}.new"
            fresh.write_bytes(made)
            fresh.chmod(0o644)
            fresh.rename(path)
            for old in ours - {path}:
                old.unlink(missing_ok=True)
        except InvalidInput as error:
            raise FailedPrecondition(error.message, hint=error.hint) from error
        except OSError as error:
            raise FailedPrecondition(
                f"network.config_template: {error.filename}: {error.strerror}", hint="give its path, and make it root's"
            ) from error
        _LOG.info("network configuration %s is written for %s", path, ", ".join(ranges))

    async def network_changes(self, known: Network | None) -> None:
        """Wait until another network than `known` is usable, or none."""
        while self.usable() == known:
            await self._looked.wait()

    def known(self) -> Network | None:
        """The default network, whether its plugins are there or not."""
        good = [file.good for _, file in sorted(self._files.items()) if file.good]
        return conflist.choose(good, self._default)

    async def changes(self) -> AsyncIterator[Readiness]:
        """The readiness now, then each change."""
        told: Readiness | None = None
        while True:
            changed = self._changed
            if told != self._state:
                told = self._state
                yield told
            else:
                await changed.wait()

    def _refresh(self) -> None:
        before = self._usable
        state = self._look()
        if state != self._state or self._usable != before:
            self._looked.set()
            self._looked = asyncio.Event()
        if state != self._state:
            self._state = state
            _LOG.info("network ready=%s %s", state.ready, state.message)
            self._changed.set()
            self._changed = asyncio.Event()

    def _look(self) -> Readiness:
        self._files, self._usable = self._read_all(), None
        network = self.known()
        if network is None:
            return _not_ready(self._why_none())
        if missing := self._missing(network):
            return _not_ready(
                f"plugin {', '.join(missing)} of network {network.name} is in none of {', '.join(self._plugin_dirs)}"
            )
        self._usable = network
        about, trouble = self._trouble
        if trouble and about == network:
            return _not_ready(trouble)
        return Readiness(ready=True)

    def _why_none(self) -> str:
        problems = [file.problem for _, file in sorted(self._files.items()) if file.problem]
        if problems:
            return "; ".join(problems[:3])
        if self._default and self._files:
            return f"no CNI configuration in {self._folder}/ is of a network named {self._default!r}"
        return f"No CNI configuration file in {self._folder}/. Has your network provider started?"

    def _read_all(self) -> dict[str, _File]:
        try:
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(conflist.SUFFIXES))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            _LOG.warning("network configurations in %s cannot be listed: %s", self._folder, error.strerror)
            return self._files
        return {name: file for name in names if (file := self._read(name)) is not None}

    def _read(self, name: str) -> _File | None:
        """The file, read again where it changed; None where it is gone."""
        path, before = self._folder / name, self._files.get(name)
        try:
            signature = _signature(path.lstat())
            if before and before.signature == signature:
                return before
            network = conflist.parse(_bytes(path), str(path))
        except FileNotFoundError:
            return None
        except (InvalidInput, OSError) as error:
            problem = str(error) if isinstance(error, InvalidInput) else f"{path}: {error.strerror}"
            _LOG.warning("network configuration passed over: %s", problem)
            return _File(signature, before.good if before else None, problem)
        return _File(signature, network, "")


def _bytes(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise InvalidInput(f"{path}: is not a regular file")
        if about.st_uid not in (0, os.geteuid()) or about.st_mode & stat.S_IWOTH:
            raise InvalidInput(
                f"{path}: somebody else than root may write it", hint="chown it to root, chmod it to 0644"
            )
        return file.read(conflist.MAX_BYTES + 1)


def _signature(about: os.stat_result) -> _Signature:
    return (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_mode)


def _not_ready(why: str) -> Readiness:
    return Readiness(ready=False, reason=_REASON, message=f"Network plugin returns error: {why}")
