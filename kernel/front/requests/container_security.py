"""LinuxContainerSecurityContext and Capability: a container's privileges, checked and translated. Pure.

The fields are in `_security_context`; seccomp, apparmor and selinux_options are `profiles`, run_as_user, run_as_group
and supplemental_groups are `identity`, namespace_options are `namespaces` and `user_namespaces`.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.contracts.runtime import Security
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import Unimplemented
from kernel.front.requests import fields, identity, namespaces, profiles, user_namespaces

CAPABILITIES = frozenset(
    (
        "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
        "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
        "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
        "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
        "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME",
        "SYS_TTY_CONFIG", "WAKE_ALARM",
    )
)  # fmt: skip
"""The names of capabilities(7), without CAP_."""
_FIELD = "config.linux.security_context"


def plan(config: cri.ContainerConfig, pod: cri.PodSandboxConfig) -> Security:
    """Check LinuxContainerConfig.security_context and translate it.

    `pod` is the configuration of the container's pod, whose namespaces decide which ones a container can have.
    Raise Unimplemented for Capability.add_ambient_capabilities.
    """
    context, field = config.linux.security_context, _FIELD
    namespace_field = f"{field}.namespace_options"
    pods_namespaces = pod.linux.security_context.namespace_options
    seccomp = profiles.seccomp(field, context)
    apparmor = profiles.apparmor(field, context)
    selinux = profiles.selinux(field, context)
    if context.capabilities.add_ambient_capabilities:
        raise Unimplemented(
            f"{field}.capabilities.add_ambient_capabilities: ambient capabilities are off: they would need inheritable"
            " ones, which no container has (CVE-2022-27652)",
            hint="give the program file capabilities, or run it as root with those it needs",
        )
    username = fields.text(f"{field}.run_as_username", context.run_as_username, limit=256, forbidden="/:")
    user, group, groups = identity.run_as(field, context, username)
    user_namespaces.check_container(namespace_field, context.namespace_options, pods_namespaces)
    pid, target = namespaces.pid_of_container(namespace_field, context.namespace_options, pods_namespaces)
    if context.supplemental_groups_policy not in (cri.Merge, cri.Strict):
        fields.refuse(f"{field}.supplemental_groups_policy", f"{context.supplemental_groups_policy} is unknown")
    return Security(
        privileged=context.privileged,
        add_capabilities=_capabilities("add_capabilities", context.capabilities.add_capabilities),
        drop_capabilities=_capabilities("drop_capabilities", context.capabilities.drop_capabilities),
        run_as_user=user,
        run_as_group=group,
        run_as_username=username,
        supplemental_groups=groups,
        supplemental_groups_policy="strict" if context.supplemental_groups_policy == cri.Strict else "merge",
        readonly_rootfs=context.readonly_rootfs,
        no_new_privs=context.no_new_privs,
        masked_paths=_paths("masked_paths", config, context.masked_paths),
        readonly_paths=_paths("readonly_paths", config, context.readonly_paths),
        seccomp=seccomp,
        apparmor=apparmor,
        selinux=selinux,
        pid=pid,
        target=target,
    )


def _capabilities(which: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return Capability.add_capabilities or drop_capabilities, in upper case and without CAP_; ALL is one of them."""
    found = []
    for index, name in enumerate(names):
        bare = name.upper().removeprefix("CAP_")
        if bare != "ALL" and bare not in CAPABILITIES:
            fields.refuse(f"{_FIELD}.capabilities.{which}[{index}]", f"{name[:80]!r} is not a capability")
        found.append(bare)
    return tuple(found)


def _paths(which: str, config: cri.ContainerConfig, given: Iterable[str]) -> tuple[str, ...] | None:
    """Return LinuxContainerSecurityContext.masked_paths or readonly_paths; None, the default ones, without a context.

    In a context an empty list means that no path is masked: so a kubelet sends `procMount: Unmasked`. For the usual
    procMount it sends the list itself. The peers read it the same way.
    """
    found = tuple(fields.path(f"{_FIELD}.{which}[{index}]", path) for index, path in enumerate(given))
    return found if config.linux.HasField("security_context") else None
