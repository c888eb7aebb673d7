"""The leases of the plugin host-local: a folder per network, a file per address, whose first line is a container id.

The files are the plugin's own; they are only read here.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from kernel.ids import SandboxId

DEFAULT_DIR = Path("/var/lib/cni/networks")
_LOG = logging.getLogger(__name__)


def held_by(sandboxes: Collection[SandboxId], folders: Iterable[Path]) -> dict[str, str]:
    """Return the leased addresses of `sandboxes`, each with the id of its sandbox."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/*")):
            if not (address := _address(path.name)):
                continue
            holder = SandboxId(_holder(path))
            if holder in sandboxes:
                found[address] = holder
    return found


def _address(name: str) -> str:
    with suppress(ValueError):  # host-local's own files: lock, last_reserved_ip.0
        return str(ipaddress.ip_address(name))
    return ""


def _holder(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(256).split(b"\n")[0].strip().decode(errors="replace")
    except OSError as error:
        _LOG.debug("lease %s cannot be read: %s", path, error.strerror)
        return ""
