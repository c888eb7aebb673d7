"""A pod's sysctls: which may be set, and in which namespaces. Pure.

Rules kept: only keys that belong to a namespace of the pod (a key of the host's would change the host); a value is
one line of plain characters.
"""

from __future__ import annotations

import re

from kernel.contracts.runtime import NamespaceMode, PodRequest
from kernel.errors import InvalidInput

_KEY = re.compile(r"[A-Za-z0-9_-]+([./][A-Za-z0-9_*-]+)+", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9_ \t.,:/-]{0,1024}", re.ASCII)
_IPC = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
        "kernel.shmmni", "kernel.shm_rmid_forced")  # fmt: skip


def check(pod: PodRequest) -> dict[str, str]:
    """The pod's sysctls by dotted key; InvalidInput for one that is not the pod's to set."""
    found = {}
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
        found[name] = value
    return found


def _dotted(key: str) -> str:
    """sysctl.d(5): where a slash comes first, slashes part the name and dots belong to it."""
    slash, dot = key.find("/"), key.find(".")
    if slash < 0 or (0 <= dot < slash):
        return key
    return key.translate(str.maketrans("./", "/."))
