"""Checks a pod's request, and takes from it the cgroup, the host name and the resolv.conf.

Run by the runtime worker. Changes nothing, and reads only the host's name from the host.
"""

from __future__ import annotations

import re

from kernel.config.sections import RuntimeSection
from kernel.contracts.runtime import NamespaceMode, PodRequest
from kernel.errors import InvalidInput
from services.runtime.cgroups import cgroup_path
from services.runtime.cgroups.cgroup_path import Driver, PodCgroup
from services.runtime.node import host_support
from services.runtime.spec import sysctl, user_namespace_spec

_HOSTNAME = re.compile(r"[A-Za-z0-9._-]{0,64}", re.ASCII)
_DNS_WORD = re.compile(r"[^\s\x00-\x1f\x7f]{1,1024}")


def check(request: PodRequest, config: RuntimeSection, driver: Driver) -> PodCgroup:
    """Return the pod's cgroup; InvalidInput names the field of the request that is wrong. Pure."""
    if request.handler and request.handler not in config.handlers:
        raise InvalidInput(f"runtime_handler: {request.handler[:64]!r} is not configured")
    if not _HOSTNAME.fullmatch(request.hostname):
        raise InvalidInput(f"config.hostname: {request.hostname[:80]!r} is not a host name of at most 64 letters")
    for name, values in (
        ("servers", request.dns_servers), ("searches", request.dns_searches), ("options", request.dns_options),
    ):  # fmt: skip
        for index, value in enumerate(values):
            if not _DNS_WORD.fullmatch(value):
                raise InvalidInput(f"config.dns_config.{name}[{index}]: {value[:64]!r} is not one word")
    sysctl.check(request)
    user_namespace_spec.check_pod(request)
    return cgroup_path.pod_cgroup(
        driver, request.cgroup_parent, config.cgroup_parent, request.sandbox_id, config.cgroup_roots
    )


def host_name(request: PodRequest) -> str:
    """Return the host name of the pod's UTS namespace, which its /etc/hostname has too."""
    if request.network is NamespaceMode.NODE:
        return host_support.host_name()
    return request.hostname or request.name[:64]


def resolv_conf(request: PodRequest) -> bytes:
    """Return the pod's resolv.conf; empty if the request sets none, and the host's is to be used. Pure."""
    lines = []
    if request.dns_searches:
        lines.append(f"search {' '.join(request.dns_searches)}")
    lines += [f"nameserver {server}" for server in request.dns_servers]
    if request.dns_options:
        lines.append(f"options {' '.join(request.dns_options)}")
    return "".join(f"{line}\n" for line in lines).encode()
