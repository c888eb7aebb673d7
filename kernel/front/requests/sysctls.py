"""LinuxPodSandboxConfig.sysctls: the kernel parameters that a pod may set. Pure.

Only those are accepted that belong to a namespace of the pod's own: any other would change the host (CVE-2022-0811,
CVE-2022-0532).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kernel.contracts.runtime import NamespaceMode
from kernel.front.requests import fields

_IPC_SYSCTL = re.compile(r"(kernel\.(shm[a-z_]+|msg[a-z_]+|sem)|fs\.mqueue\.[a-z_]+)", re.ASCII)
_NET_SYSCTL = re.compile(r"net(\.[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)+", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9 \t,._:-]{0,256}", re.ASCII)


def plan(given: Mapping[str, str], *, network: NamespaceMode, ipc: NamespaceMode) -> dict[str, str]:
    """Return LinuxPodSandboxConfig.sysctls if all belong to the pod's network and IPC namespaces."""
    for key, value in given.items():
        field = f"config.linux.sysctls[{key[:80]}]"
        name = _dotted(key)
        if _IPC_SYSCTL.fullmatch(name):
            shared = ipc is NamespaceMode.NODE
        elif _NET_SYSCTL.fullmatch(name):
            shared = network is NamespaceMode.NODE
        else:
            fields.refuse(field, "is not a sysctl of a namespace", "kernel.shm*, kernel.msg*, fs.mqueue.*, net.* are")
        if shared:
            fields.refuse(field, "would change the host, whose namespace the pod uses")
        if not _VALUE.fullmatch(value):
            fields.refuse(field, f"{value[:80]!r} has characters that no sysctl takes")
    return dict(given)


def _dotted(key: str) -> str:
    """Return the name with dots as separators; sysctl.d(5): the first separator, `/` or `.`, decides the style."""
    slash, dot = key.find("/"), key.find(".")
    return key if slash < 0 or 0 <= dot < slash else key.translate(str.maketrans("./", "/."))
