"""SELinux: the label of a container's process and of what is mounted for it, and relabelling.

Run by the runtime worker. The pure part composes labels from the node's policy, the pod's and the container's options;
a pod's level (its pair of categories) is drawn once and kept in its folder, so that no two pods share one.
Relabelling a mount's source walks a foreign tree: a throw-away child does it, and follows no link.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from kernel.contracts.runtime import SelinuxOptions
from kernel.errors import FailedPrecondition, Internal, InvalidInput
from kernel.host import files, process
from kernel.host.aio import Deadline

_FIELD = "linux.security_context.selinux_options"
_CATEGORIES = 1024
_PAIRS = _CATEGORIES * (_CATEGORIES - 1) // 2
_CONTEXT = re.compile(r'^(process|file)\s*=\s*"?([^"\s]+)"?\s*$', re.MULTILINE)
_SYSTEM = ("bin", "boot", "dev", "etc", "home", "lib", "lib64", "opt", "proc", "root", "run", "sbin", "srv", "sys",
           "tmp", "usr", "var")  # fmt: skip
"""Folders of the host that no mount may relabel as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The contexts that the node's policy has for containers: `user:role:type:level`."""

    process: str
    file: str


def policy(text: str) -> Policy:
    """From the policy's file lxc_contexts; FailedPrecondition where it says nothing of containers."""
    found = dict(_CONTEXT.findall(text))
    if any(found.get(key, "").count(":") < 3 for key in ("process", "file")):
        raise FailedPrecondition("SELinux: the policy's lxc_contexts names no contexts for containers")
    return Policy(process=found["process"], file=found["file"])


def labels(found: Policy, options: SelinuxOptions | None, level: str, *, privileged: bool) -> tuple[str, str]:
    """Labels of process and mounts; both empty for a privileged container, which keeps the runtime's own."""
    if privileged and options is None:
        return "", ""
    asked = options or SelinuxOptions()
    level = asked.level or level
    user, role, kind, _ = found.process.split(":", 3)
    process_label = f"{asked.user or user}:{asked.role or role}:{asked.type or kind}:{level}"
    user, role, kind, _ = found.file.split(":", 3)
    return process_label, f"{user}:{role}:{kind}:{level}"


def pair(number: int) -> str:
    """The level of a pod by its number: two different categories of the lowest sensitivity."""
    low, high = 0, number % _PAIRS
    while high >= _CATEGORIES - 1 - low:
        high -= _CATEGORIES - 1 - low
        low += 1
    return f"s0:c{low},c{low + 1 + high}"


def draw(sandbox: str, taken: frozenset[str]) -> str:
    """A level for a pod that no other has."""
    first = int.from_bytes(hashlib.sha256(sandbox.encode()).digest()[:8])
    for step in range(len(taken) + 1):
        if (level := pair(first + step)) not in taken:
            return level
    raise AssertionError("more levels than taken ones were tried")


class Selinux:
    """The kernel's SELinux, or its absence."""

    def __init__(self, pods: Path, mount: Path = Path("/sys/fs/selinux"), etc: Path = Path("/etc/selinux")) -> None:
        self._pods = pods
        self._mount = mount
        self._etc = etc
        self._lock = threading.Lock()

    def enabled(self) -> bool:
        """Whether this kernel has a policy loaded."""
        return (self._mount / "enforce").exists()

    def labels(self, sandbox: str, options: SelinuxOptions | None, *, privileged: bool) -> tuple[str, str]:
        """Labels of a container's process and mounts; empty without SELinux. FailedPrecondition for options then."""
        if not self.enabled():
            if options is not None:
                raise FailedPrecondition(f"{_FIELD}: this kernel has no SELinux", hint="runtime.selinux: ignore")
            return "", ""
        try:
            text = (self._etc / self._kind() / "contexts" / "lxc_contexts").read_text()
        except OSError as error:
            raise FailedPrecondition(f"SELinux: the policy's lxc_contexts: {error.strerror}") from error
        level = "" if options and options.level else self._level(sandbox)
        return labels(policy(text), options, level, privileged=privileged)

    def _kind(self) -> str:
        found = re.search(r"^SELINUXTYPE=(\w+)", (self._etc / "config").read_text(), re.MULTILINE)
        return found[1] if found else "targeted"

    def _level(self, sandbox: str) -> str:
        """The pod's level, drawn now where it has none."""
        own = self._pods / sandbox / "level"
        with self._lock:
            if own.exists():
                return own.read_text()
            taken = frozenset(path.read_text() for path in self._pods.glob("*/level"))
            level = draw(sandbox, taken)
            files.replace(own, level.encode(), durable=False)
            return level


def check_relabel(index: int, source: str) -> None:
    """InvalidInput for a folder that the whole host uses."""
    parts = source.strip("/").split("/")
    if not parts[0] or (len(parts) == 1 and parts[0] in _SYSTEM) or parts[0] in ("proc", "sys", "usr", "etc"):
        raise InvalidInput(f"mounts[{index}].selinux_relabel: {source!r} belongs to the host, and is not relabelled")


async def relabel(index: int, host_path: str, label: str, deadline: Deadline) -> None:
    """Give a mount's source and all below it the label."""
    source = os.path.realpath(host_path)
    check_relabel(index, source)
    await change(f"mounts[{index}].selinux_relabel", source, label, deadline)


async def change(what: str, path: str, label: str, deadline: Deadline) -> None:
    """chcon(1) over a tree; Internal begins with `what`."""
    done = await process.run(["chcon", "--recursive", "--no-dereference", "-P", label, "--", path], deadline=deadline)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-512:]
        raise Internal(f"{what}: {path!r}: {said or process.describe(done.returncode)}")
