"""A container's CRI configuration into the runtime's request; bad input named by field path. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, NamespaceMode, Security
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import Unimplemented
from kernel.front.requests import fields, mounts, user_namespaces
from kernel.front.requests.pod_config import MODES, check_identity, check_profiles, mode_of, resources_of
from kernel.front.requests.profiles import apparmor, seccomp, selinux
from kernel.ids import ContainerId, SandboxId, container_id

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
"""capabilities(7), without CAP_."""


def container_name(config: cri.ContainerConfig) -> tuple[str, int]:
    """Name and attempt: with the sandbox, what a repeated CreateContainer is known by."""
    if not config.HasField("metadata"):
        fields.refuse("config.metadata", "is missing")
    return fields.name("config.metadata.name", config.metadata.name), config.metadata.attempt


def image_of(config: cri.ContainerConfig) -> str:
    """The image as the request names it."""
    if not config.image.image:
        fields.refuse("config.image.image", "is missing")
    return fields.text("config.image.image", config.image.image)


def plan_container(
    container: ContainerId,
    sandbox: SandboxId,
    config: cri.ContainerConfig,
    pod: cri.PodSandboxConfig,
    *,
    image: ImageConfig,
    image_ref: str,
) -> CreateRequest:
    """Check a whole CreateContainer request and translate it; `passwd` and `group` come with the root file system."""
    name, attempt = container_name(config)
    command = fields.arguments("config.command", config.command)
    args = fields.arguments("config.args", config.args)
    if not (command or args or image.entrypoint or image.cmd):
        fields.refuse("config.command", "is empty, and the image has no command of its own")
    return CreateRequest(
        container=container,
        sandbox=sandbox,
        name=name,
        attempt=attempt,
        image=image,
        image_name=config.image.user_specified_image or image_of(config),
        image_ref=image_ref,
        command=command,
        args=args,
        working_dir=fields.path("config.working_dir", config.working_dir) if config.working_dir else "",
        envs=tuple(_env(index, env) for index, env in enumerate(config.envs)),
        mounts=mounts.plan(config.mounts),
        devices=mounts.devices(config.devices),
        cdi_devices=mounts.cdi_devices(config),
        labels=fields.strings("config.labels", config.labels),
        annotations=fields.strings("config.annotations", config.annotations),
        log_path=log_path(config, pod)[0],
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        stop_signal=signal_name(config.stop_signal),
        security=_security(config, pod),
        resources=resources_of("config.linux.resources", config.linux.resources),
    )


def log_path(config: cri.ContainerConfig, pod: cri.PodSandboxConfig) -> tuple[str, str]:
    """The log's path below the pod's folder and in full; both empty where either part is not given."""
    below = fields.relative_path("config.log_path", config.log_path)
    if not below or not pod.log_directory:
        return "", ""
    return below, f"{pod.log_directory.rstrip('/')}/{below}"


def signal_name(value: int) -> str:
    """CRI Signal as the kernel's name: `SIGTERM`, `SIGRTMIN+3`; empty for the default."""
    descriptor = cri.DESCRIPTOR.enum_types_by_name["Signal"].values_by_number.get(value)
    if descriptor is None:
        fields.refuse("config.stop_signal", f"{value} is unknown")
    name = descriptor.name.removeprefix("SIGNAL_")
    if name == "RUNTIME_DEFAULT":
        return ""
    return name.replace("SIGRTMAXMINUS", "SIGRTMAX-").replace("SIGRTMINPLUS", "SIGRTMIN+")


def signal_number(name: str) -> cri.Signal.ValueType:
    """The CRI Signal of a kernel's name; the default's where it has none."""
    if not name:
        return cri.SIGNAL_RUNTIME_DEFAULT
    full = name if name.startswith("SIG") else f"SIG{name}"
    wire = f"SIGNAL_{full.replace('SIGRTMAX-', 'SIGRTMAXMINUS').replace('SIGRTMIN+', 'SIGRTMINPLUS')}"
    descriptor = cri.DESCRIPTOR.enum_types_by_name["Signal"].values_by_name.get(wire)
    return cri.Signal.Value(wire) if descriptor else cri.SIGNAL_RUNTIME_DEFAULT


def _env(index: int, env: cri.KeyValue) -> tuple[str, str]:
    field = f"config.envs[{index}]"
    if not env.key or "=" in env.key or "\0" in env.key:
        fields.refuse(f"{field}.key", f"{env.key[:80]!r} is not a variable's name")
    try:
        value = env.value.decode()
    except UnicodeDecodeError:
        fields.refuse(f"{field}.value", f"of {env.key[:80]} is not UTF-8")
    if "\0" in value:
        fields.refuse(f"{field}.value", f"of {env.key[:80]} has a NUL character")
    if env.key == "HOME" and ("\n" in value or ":" in value):  # it would reach /etc/passwd (CVE-2022-4318)
        fields.refuse(f"{field}.value", "of HOME is not a path")
    return env.key, value


_FIELD = "config.linux.security_context"


def _security(config: cri.ContainerConfig, pod: cri.PodSandboxConfig) -> Security:
    context = config.linux.security_context
    check_profiles(_FIELD, context)
    if context.capabilities.add_ambient_capabilities:
        raise Unimplemented(
            f"{_FIELD}.capabilities.add_ambient_capabilities: ambient capabilities are off: they would need inheritable"
            " ones, which no container has (CVE-2022-27652)",
            hint="give the program file capabilities, or run it as root with those it needs",
        )
    username = fields.text(f"{_FIELD}.run_as_username", context.run_as_username, limit=256, forbidden="/:")
    user, group, groups = check_identity(_FIELD, context, username)
    user_namespaces.check_container(
        f"{_FIELD}.namespace_options", context.namespace_options, pod.linux.security_context.namespace_options
    )
    pid, target = _pid(context.namespace_options, pod.linux.security_context.namespace_options)
    if context.supplemental_groups_policy not in (cri.Merge, cri.Strict):
        fields.refuse(f"{_FIELD}.supplemental_groups_policy", f"{context.supplemental_groups_policy} is unknown")
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
        seccomp=seccomp(_FIELD, context),
        apparmor=apparmor(_FIELD, context),
        selinux=selinux(_FIELD, context),
        pid=pid,
        target=target,
    )


def _pid(options: cri.NamespaceOption, pod: cri.NamespaceOption) -> tuple[NamespaceMode, ContainerId | None]:
    """A container that asks for the pod's PID namespace gets the host's or its own where the pod has none to share."""
    field = f"{_FIELD}.namespace_options"
    pid = mode_of(f"{field}.pid", options.pid, *NamespaceMode)
    if pid is NamespaceMode.TARGET:
        return pid, container_id(options.target_id)
    if pid is NamespaceMode.POD and pod.pid != cri.POD:
        return MODES[pod.pid], None
    return pid, None


def _capabilities(which: str, names: Iterable[str]) -> tuple[str, ...]:
    found = []
    for index, name in enumerate(names):
        bare = name.upper().removeprefix("CAP_")
        if bare != "ALL" and bare not in CAPABILITIES:
            fields.refuse(f"{_FIELD}.capabilities.{which}[{index}]", f"{name[:80]!r} is not a capability")
        found.append(bare)
    return tuple(found)


def _paths(which: str, config: cri.ContainerConfig, given: Iterable[str]) -> tuple[str, ...] | None:
    """An empty list of a security context means none, as the kubelet and the peers have it: so `procMount: Unmasked`
    looks on the wire, while for the usual one it sends the list. None, the default ones, where there is no context."""
    found = tuple(fields.path(f"{_FIELD}.{which}[{index}]", path) for index, path in enumerate(given))
    return found if config.linux.HasField("security_context") else None
