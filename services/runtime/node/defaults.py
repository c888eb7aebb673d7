"""Parses the configuration's defaults for containers: ulimits, variables, sysctls, mounts, time zone, umask. Pure.

An error in the configuration is FailedPrecondition and names the key: the request is not to blame. All of this is
only a default: the image's and the request's values replace it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from kernel.contracts.runtime import NamespaceMode, PodRequest
from kernel.errors import FailedPrecondition, InvalidInput
from services.runtime.spec import sysctl

_ULIMIT = re.compile(
    r"(as|core|cpu|data|fsize|locks|memlock|msgqueue|nice|nofile|nproc|rss|rtprio|rttime|sigpending|stack)"
    r"=(-1|\d{1,19})(:(-1|\d{1,19}))?",
    re.ASCII,
)
_ZONE = re.compile(r"[A-Za-z0-9+_-]+(/[A-Za-z0-9+_-]+){0,3}", re.ASCII)
_UNLIMITED = (1 << 64) - 1
ZONES = "/usr/share/zoneinfo"
"""The host's folder of time zones."""
LOCALTIME = "/etc/localtime"


def rlimits(given: tuple[str, ...], most: Mapping[str, int]) -> list[dict[str, object]]:
    """Return `process.rlimits` (config.md, POSIX process).

    `most`: an upper bound by name (`nofile`), for a worker that may not raise its own hard limits.
    """
    found = []
    for text in given:
        match = _ULIMIT.fullmatch(text)
        if not match:
            raise FailedPrecondition(f"configuration: runtime.default_ulimits: {text!r} is not NAME=SOFT[:HARD]")
        name, soft = match[1], int(match[2])
        hard = int(match[4]) if match[4] else soft
        values = [min(_UNLIMITED if value < 0 else value, most.get(name, _UNLIMITED)) for value in (soft, hard)]
        if values[0] > values[1]:
            raise FailedPrecondition(f"configuration: runtime.default_ulimits: {text!r}: soft is above hard")
        found.append({"type": f"RLIMIT_{name.upper()}", "soft": values[0], "hard": values[1]})
    return found


def env(given: tuple[str, ...]) -> dict[str, str]:
    """Return the variables by name."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals or "\0" in text:
            raise FailedPrecondition(f"configuration: runtime.default_env: {text[:80]!r} is not NAME=value")
        found[name] = value
    return found


def umask(given: str) -> int | None:
    """Return `process.user.umask`; None for the OCI runtime's own."""
    if not given:
        return None
    if not re.fullmatch(r"0?[0-7]{3}", given, re.ASCII):
        raise FailedPrecondition(f"configuration: runtime.umask: {given[:20]!r} is not three octal digits")
    return int(given, 8)


def sysctls(given: Mapping[str, str], pod: PodRequest) -> dict[str, str]:
    """Return the sysctls that belong to a namespace of the pod's own: any other would change the host."""
    found = {}
    for key, value in given.items():
        plain = PodRequest(sandbox_id=pod.sandbox_id, name="", namespace="", uid="", sysctls={key: value})
        try:
            (name,) = sysctl.check(plain)
        except InvalidInput as error:
            raise FailedPrecondition(f"configuration: runtime.default_sysctls: {error.message}") from error
        shared = pod.network if name.startswith("net.") else pod.ipc
        if shared is not NamespaceMode.NODE:
            found[name] = value
    return found


def time_zone(given: str) -> str:
    """Return the host's file for /etc/localtime; empty if the container keeps the image's."""
    if not given:
        return ""
    if given.lower() == "local":
        return LOCALTIME
    if not _ZONE.fullmatch(given):
        raise FailedPrecondition(f"configuration: runtime.timezone: {given[:80]!r} is not a time zone")
    return f"{ZONES}/{given}"


def mounts(text: str, path: str) -> list[tuple[str, str]]:
    """Return target and source of each line of a mounts.conf (containers-mounts.conf(5)). `path`: for errors."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.strip()
        if not plain or plain.startswith("#"):
            continue
        source, colon, target = plain.partition(":")
        target = target if colon else source
        for part in (source, target):
            if not part.startswith("/") or ".." in part.split("/") or posixpath.normpath(part) == "/":
                raise FailedPrecondition(f"{path}, line {number}: {plain[:80]!r} is not SOURCE:TARGET")
        found.append((posixpath.normpath(target), source))
    return found
