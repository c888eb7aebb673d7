"""The `process` of a container's OCI specification: words, environment, working directory, capabilities. Pure.

It follows config.md, Process and Linux Process. Rules kept: the CRI's rule for commands (a command replaces the
image's entrypoint and drops its cmd; arguments replace its cmd); a working directory never leads through a
descriptor that the OCI runtime left open. Errors are InvalidInput with the path of the CRI field.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from kernel.contracts.runtime import CreateRequest, NamespaceMode, PodRequest
from kernel.errors import InvalidInput
from services.runtime.spec import exec_spec
from services.runtime.spec.inputs import Defaults, Host, Spec
from services.runtime.spec.security_context import capabilities
from services.runtime.spec.security_context.user import User

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OPEN_DESCRIPTOR = re.compile(r"/proc/(self|thread-self|[0-9]+)(/|$)", re.ASCII)
"""Paths that lead to a process's open files."""


def process(pod: PodRequest, request: CreateRequest, user: User, host: Host, defaults: Defaults) -> Spec:
    """Return `process`, but for the labels and profiles of `security_context.confinement`."""
    names = capability_names(request, host, defaults)
    return {
        "terminal": request.tty,  # tty
        "user": {
            "uid": user.uid, "gid": user.gid, "additionalGids": list(user.supplemental_groups),
            **({} if defaults.umask is None else {"umask": defaults.umask}),
        },
        "args": arguments(request),  # command, args
        "env": environment(pod, request, host, defaults.env),  # envs
        "cwd": working_dir(request),  # working_dir
        "capabilities": {  # linux.security_context.capabilities
            "bounding": names, "effective": names, "permitted": names, "inheritable": [], "ambient": [],
        },
        "noNewPrivileges": request.security.no_new_privs,  # linux.security_context.no_new_privs
        "rlimits": list(defaults.rlimits),
        "oomScoreAdj": _oom_score_adj(request.resources.oom_score_adj, host),  # linux.resources.oom_score_adj
    }  # fmt: skip


def arguments(request: CreateRequest) -> list[str]:
    """Return `process.args`: the words that the container is started with; InvalidInput if nothing names a program."""
    image = request.image
    words = [*request.command, *request.args]
    if not request.command:
        words = [*image.entrypoint, *(request.args or image.cmd)]
    if not words or not words[0]:
        raise InvalidInput(f"command: is empty, and image {request.image_name} has neither entrypoint nor cmd")
    exec_spec.check_words("command", words)
    return words


def environment(
    pod: PodRequest, request: CreateRequest, host: Host, defaults: Mapping[str, str] | None = None
) -> list[str]:
    """Return `process.env`, each as NAME=value: the defaults, then the image's variables, then the request's.

    A later variable replaces an earlier one of the same name.
    """
    values = {"PATH": PATH, "HOSTNAME": hostname(pod, host), **(defaults or {})}
    if request.tty:
        values["TERM"] = "xterm"
    for pair in request.image.env:
        name, equals, value = pair.partition("=")
        if name and equals and "\0" not in pair:
            values[name] = value
    for index, (name, value) in enumerate(request.envs):
        if not name or "=" in name or "\0" in name:
            raise InvalidInput(f"envs[{index}].key: {name[:64]!r} is not a variable's name")
        if "\0" in value:
            raise InvalidInput(f"envs[{index}].value: contains a NUL byte")
        values[name] = value
    if any(ord(letter) < 32 for letter in values.get("HOME", "")):
        raise InvalidInput("envs: HOME contains a control character")
    return [f"{name}={value}" for name, value in values.items()]


def hostname(pod: PodRequest, host: Host) -> str:
    """Return the pod's host name: PodSandboxConfig.hostname, or the host's own if the pod shares the host's network.

    Without a hostname it is the pod's name, as the kubelet and other runtimes have it.
    """
    return host.hostname if pod.network is NamespaceMode.NODE else pod.hostname or pod.name[:64]


def working_dir(request: CreateRequest) -> str:
    """Return `process.cwd`: the folder that the process starts in.

    InvalidInput for a path through /proc/PID: a descriptor that is still open there could lead out of the container.
    """
    requested = request.working_dir
    if requested and not requested.startswith("/"):
        raise InvalidInput(f"working_dir: {requested[:64]!r} is not an absolute path")
    path = "/" + posixpath.normpath("/" + (requested or request.image.working_dir or "/")).lstrip("/")
    if _OPEN_DESCRIPTOR.match(path) or "\0" in path:
        field = "working_dir" if requested else f"image {request.image_name}: WorkingDir"
        raise InvalidInput(f"{field}: {path[:64]!r} may not be a working directory")
    return path


def capability_names(request: CreateRequest, host: Host, defaults: Defaults) -> list[str]:
    """Return the container's capabilities, each as CAP_NAME (linux.security_context.capabilities and .privileged)."""
    security = request.security
    return capabilities.resolve(
        defaults.capabilities, security.add_capabilities, security.drop_capabilities,
        privileged=security.privileged, bounding=host.bounding,
    )  # fmt: skip


def _oom_score_adj(requested: int, host: Host) -> int:
    """Return `process.oomScoreAdj`, which is always set: without it the container would have the worker's own.

    Without CAP_SYS_RESOURCE the kernel allows no value below the worker's.
    """
    if not -1000 <= requested <= 1000:
        raise InvalidInput(f"linux.resources.oom_score_adj: {requested} is not between -1000 and 1000")
    return requested if host.may_lower_oom_score else max(requested, host.oom_score_adj)
