"""One run of `crisp`: its options, and the objects that commands share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kernel.cli.output import Output

if TYPE_CHECKING:
    from kernel.cli.daemon_client import Daemon
    from kernel.config.paths import Paths
    from kernel.config.sections import Config


@dataclass
class Context:
    """The argument of every command. The configuration is read, and the daemon connected to, on first use."""

    out: Output
    config_file: Path | None = None
    socket: Path | None = None

    @cached_property
    def config(self) -> Config:
        """The effective configuration."""
        from kernel.config import reading

        return reading.load(self.config_file)

    @property
    def paths(self) -> Paths:
        """The paths that follow from the configuration."""
        return self.config.paths

    @cached_property
    def daemon(self) -> Daemon:
        """The front. `--socket` has precedence over the configuration."""
        from kernel.cli.daemon_client import Daemon

        return Daemon(self.socket or self.paths.socket)
