"""Makes the SELinux labels of a container's process and files (linux.security_context.selinux_options), and relabels.

Run by the runtime worker. Pure functions compose labels from the node's policy and from the pod's and the
container's options. A pod's level (its pair of categories) is drawn once and kept in the pod's folder, so that no two
pods share one. Relabelling the source of a mount walks a tree that users control: a throw-away child does it, and
follows no link.
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
"""The number of pairs of two different categories."""
_CONTEXT = re.compile(r'^(process|file)\s*=\s*"?([^"\s]+)"?\s*$', re.MULTILINE)
_SYSTEM = ("bin", "boot", "dev", "etc", "home", "lib", "lib64", "opt", "proc", "root", "run", "sbin", "srv", "sys",
           "tmp", "usr", "var")  # fmt: skip
"""Folders at the host's root that no mount may relabel as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The contexts for containers in the node's policy, each `user:role:type:level`."""

    process: str
    file: str


def policy(text: str) -> Policy:
    """Return the contexts in the policy's file lxc_contexts; FailedPrecondition if it has none for containers. Pure."""
    found = dict(_CONTEXT.findall(text))
    if any(found.get(key, "").count(":") < 3 for key in ("process", "file")):
        raise FailedPrecondition("SELinux: the policy's lxc_contexts names no contexts for containers")
    return Policy(process=found["process"], file=found["file"])


def labels(node: Policy, options: SelinuxOptions | None, level: str, *, privileged: bool) -> tuple[str, str]:
    """Return the labels of a container's process and files. Pure.

    Both are empty for a privileged container without options of its own: it keeps the OCI runtime's label.
    """
    if privileged and options is None:
        return "", ""
    requested = options or SelinuxOptions()
    level = requested.level or level
    user, role, kind, _ = node.process.split(":", 3)
    process_label = f"{requested.user or user}:{requested.role or role}:{requested.type or kind}:{level}"
    user, role, kind, _ = node.file.split(":", 3)
    return process_label, f"{user}:{role}:{kind}:{level}"


def numbered_level(number: int) -> str:
    """Return the level with a number: two different categories of the lowest sensitivity. Pure."""
    low, high = 0, number % _PAIRS
    while high >= _CATEGORIES - 1 - low:
        high -= _CATEGORIES - 1 - low
        low += 1
    return f"s0:c{low},c{low + 1 + high}"


def draw(sandbox_id: str, taken: frozenset[str]) -> str:
    """Return a level for a pod that is not `taken` by another. Pure."""
    first = int.from_bytes(hashlib.sha256(sandbox_id.encode()).digest()[:8])
    for step in range(len(taken) + 1):
        if (level := numbered_level(first + step)) not in taken:
            return level
    raise AssertionError("more levels than taken ones were tried")


class Selinux:
    """SELinux of this kernel, which may have none."""

    def __init__(self, pods: Path, mount: Path = Path("/sys/fs/selinux"), etc: Path = Path("/etc/selinux")) -> None:
        self._pods = pods
        self._mount = mount
        self._etc = etc
        self._lock = threading.Lock()

    def enabled(self) -> bool:
        """Return whether this kernel has a policy loaded."""
        return (self._mount / "enforce").exists()

    def labels(self, sandbox_id: str, options: SelinuxOptions | None, *, privileged: bool) -> tuple[str, str]:
        """Return the labels of a container's process and files; empty without SELinux.

        FailedPrecondition if there are options and no SELinux, or no readable policy.
        """
        if not self.enabled():
            if options is not None:
                raise FailedPrecondition(f"{_FIELD}: this kernel has no SELinux", hint="runtime.selinux: ignore")
            return "", ""
        try:
            text = (self._etc / self._kind() / "contexts" / "lxc_contexts").read_text()
        except OSError as error:
            raise FailedPrecondition(f"SELinux: the policy's lxc_contexts: {error.strerror}") from error
        level = "" if options and options.level else self._level(sandbox_id)
        return labels(policy(text), options, level, privileged=privileged)

    def _kind(self) -> str:
        found = re.search(r"^SELINUXTYPE=(\w+)", (self._etc / "config").read_text(), re.MULTILINE)
        return found[1] if found else "targeted"

    def _level(self, sandbox_id: str) -> str:
        """Return the pod's level, which is drawn now if it has none."""
        own = self._pods / sandbox_id / "level"
        with self._lock:
            if own.exists():
                return own.read_text()
            taken = frozenset(path.read_text() for path in self._pods.glob("*/level"))
            level = draw(sandbox_id, taken)
            files.replace(own, level.encode(), durable=False)
            return level


def check_relabel(index: int, source: str) -> None:
    """Raise InvalidInput for a folder that the whole host uses. Pure."""
    parts = source.strip("/").split("/")
    if not parts[0] or (len(parts) == 1 and parts[0] in _SYSTEM) or parts[0] in ("proc", "sys", "usr", "etc"):
        raise InvalidInput(f"mounts[{index}].selinux_relabel: {source!r} belongs to the host, and is not relabelled")


async def relabel(index: int, host_path: str, label: str, deadline: Deadline) -> None:
    """Give the source of mounts[index], and everything below it, the label."""
    source = os.path.realpath(host_path)
    check_relabel(index, source)
    await label_tree(f"mounts[{index}].selinux_relabel", source, label, deadline)


async def label_tree(what: str, path: str, label: str, deadline: Deadline) -> None:
    """Give a tree a label by chcon(1); Internal begins with `what`."""
    done = await process.run(["chcon", "--recursive", "--no-dereference", "-P", label, "--", path], deadline=deadline)
    if done.returncode:
        output = done.stderr.decode(errors="replace").strip()[-512:]
        raise Internal(f"{what}: {path!r}: {output or process.describe(done.returncode)}")
