"""A pod's sysctls: `linux.sysctls` of PodSandboxConfig, as `linux.sysctl` (config-linux.md, Sysctl). Pure.

Rules kept: only names that belong to a namespace of the pod may be set, as any other would change the host; a value
is one line of plain characters.
"""

from __future__ import annotations

import re

from kernel.contracts.runtime import NamespaceMode, PodRequest
from kernel.errors import InvalidInput

_KEY = re.compile(r"[A-Za-z0-9_-]+([./][A-Za-z0-9_*-]+)+", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9_ \t.,:/-]{0,1024}", re.ASCII)
_IPC = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
        "kernel.shmmni", "kernel.shm_rmid_forced")  # fmt: skip
"""Names that belong to an IPC namespace (ipc_namespaces(7)), beside fs.mqueue."""


def check(pod: PodRequest) -> dict[str, str]:
    """Return the pod's sysctls by their names with dots; InvalidInput for one that the pod may not set."""
    allowed = {}
    for key, value in pod.sysctls.items():
        field = f"linux.sysctls[{key[:64]!r}]"
        if not _KEY.fullmatch(key) or ".." in key:
            raise InvalidInput(f"{field}: is not a sysctl's name")
        if not _VALUE.fullmatch(value):
            raise InvalidInput(f"{field}: its value {value[:64]!r} is not plain text on one line")
        name = _dotted(key)
        if name.startswith("net."):
            if pod.network is NamespaceMode.NODE:
                raise InvalidInput(f"{field}: cannot be set in a pod on the host's network")
        elif name in _IPC or name.startswith("fs.mqueue."):
            if pod.ipc is NamespaceMode.NODE:
                raise InvalidInput(f"{field}: cannot be set in a pod with the host's IPC namespace")
        else:
            raise InvalidInput(f"{field}: belongs to no namespace of the pod")
        allowed[name] = value
    return allowed


def _dotted(key: str) -> str:
    """Return a name with dots between its parts.

    If a slash comes before any dot, slashes are between the parts, and dots belong to them (sysctl.d(5)).
    """
    slash, dot = key.find("/"), key.find(".")
    if slash < 0 or (0 <= dot < slash):
        return key
    return key.translate(str.maketrans("./", "/."))
