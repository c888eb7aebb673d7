"""The things that the host holds, read from the host: mounts, links, leases, cgroups, processes, rules.

The leak ledger of the integration tests: a thing that has a daemon's own folder, bridge, network or cgroup parent after
its last pod is gone is a leak. Things of other daemons and tests never count, so tests can run side by side.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

CGROUPS = Path("/sys/fs/cgroup")
SLOWNESS = float(os.environ.get("CRISP_TEST_SLOWNESS", "1"))
"""The factor by which everything may take longer, on a machine that is emulated."""
_T = TypeVar("_T")


def until(what: str, ask: Callable[[], _T], limit: float = 20.0, every: float = 0.02) -> _T:
    """Repeat a question until the answer is true, if there is no event to wait for; fails with `what` after `limit`
    seconds."""
    limit *= SLOWNESS
    end = time.monotonic() + limit
    while not (answer := ask()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}; last answer: {answer!r}")
        time.sleep(every)
    return answer


def run(*argv: str, check: bool = True, limit: float = 30) -> str:
    """Return a program's standard output."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=limit * SLOWNESS, check=False)
    assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.returncode}: {done.stderr or done.stdout}"
    return done.stdout


def mounts(below: Path) -> list[str]:
    """Return mount points below a folder."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [point for line in lines if (point := line.split()[4]).startswith(f"{below}/")]


def cgroups(parent: str) -> list[Path]:
    """Return every folder of the named cgroup and below it, in each hierarchy, deepest first."""
    name = parent.strip("/")
    roots = [CGROUPS / name, *(hierarchy / name for hierarchy in CGROUPS.iterdir() if hierarchy.is_dir())]
    found: list[Path] = []
    for root in roots:
        found += [Path(folder) for folder, _, _ in os.walk(root, topdown=False)]
    return found


def processes(below: Path) -> list[psutil.Process]:
    """Return processes with a word of their command line in a folder: the daemon, its workers, conmon, runc."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(below) in word for word in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def cgroup_processes(parent: str) -> list[int]:
    """Return processes in the named cgroup or below it."""
    pids: set[int] = set()
    for folder in cgroups(parent):
        try:
            pids.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
        except OSError:  # removed meanwhile
            continue
    return sorted(pids)


def veths(bridge: str) -> list[str]:
    """Return the links that are enslaved to a bridge."""
    folder = Path("/sys/class/net") / bridge / "brif"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def rules(word: str) -> list[str]:
    """Return firewall rules that contain a word: a network's name in CNI's comments, an address."""
    found = []
    for program in ("iptables-save", "ip6tables-save"):
        if shutil.which(program):
            found += [line for line in run(program, check=False).splitlines() if word in line]
    if shutil.which("nft"):
        found += [line.strip() for line in run("nft", "list", "ruleset", check=False).splitlines() if word in line]
    return found


def remove_rules(word: str) -> None:
    """Remove CNI's rules of a network, for a test that failed half way. Chains that networks share stay."""
    for program in ("iptables", "ip6tables"):
        if not shutil.which(program):
            continue
        lines = [line for line in run(f"{program}-save", "-t", "nat", check=False).splitlines() if word in line]
        chains = {chain for line in lines for chain in re.findall(r"-j (CNI-(?:DN-)?[0-9a-f]{8,})", line)}
        batch = [line.replace("-A ", "-D ", 1) for line in lines if line.startswith("-A ")]
        batch += [f"{flag} {chain}" for chain in sorted(chains) for flag in ("-F", "-X")]
        if batch:
            text = "\n".join(["*nat", *batch, "COMMIT", ""])
            restore = [f"{program}-restore", "--noflush", "--wait", "5"]
            subprocess.run(restore, input=text, text=True, capture_output=True, check=False, timeout=20)


def start_time(pid: int) -> int:
    """Return field 22 of a process's stat, which with the pid identifies one process for good."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def crun(folder: Path, real: str) -> str:
    """Return a crun that works on this host.

    Debian 12's refuses a hybrid cgroup tree. On such a host it is a script in `folder` that runs `real` in a view
    without the v2 part. Only that part's mount is private there, so that containers still share the rest with the host.
    """
    if not (CGROUPS / "unified").is_dir():
        return real
    script = folder / "crun-without-unified"
    inside = f'mount --make-private /sys/fs/cgroup && umount /sys/fs/cgroup/unified && exec {real} "$@"'
    script.write_text(f"#!/bin/sh\nexec unshare --mount --propagation unchanged sh -c '{inside}' crun \"$@\"\n")
    script.chmod(0o755)
    return str(script)
