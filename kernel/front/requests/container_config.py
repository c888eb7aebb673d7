"""ContainerConfig: a container's configuration, checked and translated into the runtime's request. Pure.

InvalidInput names the field by its path in CreateContainerRequest: `config.envs[2].key`.

- LinuxContainerConfig.resources is checked by `resources`, LinuxContainerConfig.security_context by
  `container_security`.
- CreateContainerRequest.pod_sandbox_id is looked up in the replica. CreateContainerRequest.sandbox_config is ignored:
  the pod's record has the configuration that RunPodSandbox brought.
"""

from __future__ import annotations

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import container_security, fields, mounts
from kernel.front.requests.resources import resources_of
from kernel.front.requests.stop_signal import signal_name
from kernel.ids import ContainerId, SandboxId


def container_name(config: cri.ContainerConfig) -> tuple[str, int]:
    """Return name and attempt of ContainerConfig.metadata (ContainerMetadata).

    With the sandbox they are what a repeated CreateContainer is recognised by.
    """
    if not config.HasField("metadata"):
        fields.refuse("config.metadata", "is missing")
    return fields.name("config.metadata.name", config.metadata.name), config.metadata.attempt


def image_of(config: cri.ContainerConfig) -> str:
    """Return ContainerConfig.image: the image as the request names it (ImageSpec.image)."""
    if not config.image.image:
        fields.refuse("config.image.image", "is missing")
    return fields.text("config.image.image", config.image.image)


def plan_container(
    container_id: ContainerId,
    sandbox_id: SandboxId,
    config: cri.ContainerConfig,
    pod: cri.PodSandboxConfig,
    *,
    image: ImageConfig,
    image_ref: str,
) -> CreateRequest:
    """Check a whole CreateContainerRequest and translate it.

    `pod` is the configuration of the pod as RunPodSandbox had it, `image` that of the image, `image_ref` is what
    ContainerStatus.image_ref shows. The users and groups of the image are looked up later, in its root file system.
    """
    name, attempt = container_name(config)
    command = fields.arguments("config.command", config.command)
    args = fields.arguments("config.args", config.args)
    if not (command or args or image.entrypoint or image.cmd):
        fields.refuse("config.command", "is empty, and the image has no command of its own")
    return CreateRequest(
        container_id=container_id,
        sandbox_id=sandbox_id,
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
        cdi_devices=mounts.cdi_devices(config.CDI_devices),
        labels=fields.strings("config.labels", config.labels),
        annotations=fields.strings("config.annotations", config.annotations),
        log_path=log_path(config, pod)[0],
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        stop_signal=signal_name(config.stop_signal),
        security=container_security.plan(config, pod),
        resources=resources_of("config.linux.resources", config.linux.resources),
    )


def log_path(config: cri.ContainerConfig, pod: cri.PodSandboxConfig) -> tuple[str, str]:
    """Return ContainerConfig.log_path, and the same joined to PodSandboxConfig.log_directory.

    Both are empty if the request or the pod leaves its part out: then no log is written.
    """
    below = fields.relative_path("config.log_path", config.log_path)
    if not below or not pod.log_directory:
        return "", ""
    return below, f"{pod.log_directory.rstrip('/')}/{below}"


def _env(index: int, env: cri.KeyValue) -> tuple[str, str]:
    """Return name and value of one of ContainerConfig.envs (KeyValue)."""
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
