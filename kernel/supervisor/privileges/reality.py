"""The user and the privileges of a process, as /proc reports them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kernel.supervisor.privileges.workers import CAPABILITIES

_NAMES = {number: name for name, number in CAPABILITIES.items()}
_SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Some lines of /proc/PID/status."""

    uid: int
    capabilities: tuple[str, ...]
    """The effective capabilities, without CAP_."""
    seccomp: str
    no_new_privs: bool


def parse_status(text: str) -> Status:
    """Parse the lines of /proc/PID/status that `crisp workers` shows."""
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return Status(
        uid=int(fields["Uid"].split()[1]),
        capabilities=capability_names(int(fields["CapEff"], 16)),
        seccomp=_SECCOMP.get(fields["Seccomp"].strip(), "disabled"),
        no_new_privs=fields["NoNewPrivs"].strip() == "1",
    )


def capability_names(mask: int) -> tuple[str, ...]:
    """Return the names of a mask's bits; a bit that is newer than the list is named by its number."""
    return tuple(_NAMES.get(bit, str(bit)) for bit in range(mask.bit_length()) if mask >> bit & 1)


def status(pid: int) -> Status:
    """Return a process's status; raises ProcessLookupError or FileNotFoundError if it has gone."""
    return parse_status(Path(f"/proc/{pid}/status").read_text())


def pss(pid: int) -> int:
    """Return a process's proportional set size in bytes. Needs the right to trace `pid`, which the spawner has."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
