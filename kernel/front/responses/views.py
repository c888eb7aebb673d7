"""PodSandbox, PodSandboxStatus, Container and ContainerStatus, made of records. Pure.

Items of lists are kept serialised by `kernel.front.memory.list_items`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kernel.contracts.records import Container, ContainerState, Sandbox, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests.mounts import is_image
from kernel.front.requests.stop_signal import signal_number
from kernel.ids import ImageId

SANDBOX_STATES = {
    SandboxState.CREATING: cri.SANDBOX_NOTREADY,
    SandboxState.READY: cri.SANDBOX_READY,
    SandboxState.NOT_READY: cri.SANDBOX_NOTREADY,
}
"""PodSandboxState by the record's."""
CONTAINER_STATES = {
    ContainerState.CREATING: cri.CONTAINER_UNKNOWN,
    ContainerState.CREATED: cri.CONTAINER_CREATED,
    ContainerState.RUNNING: cri.CONTAINER_RUNNING,
    ContainerState.EXITED: cri.CONTAINER_EXITED,
    ContainerState.UNKNOWN: cri.CONTAINER_UNKNOWN,
}
"""ContainerState of the CRI by the record's."""


def pod_config(record: Sandbox) -> cri.PodSandboxConfig:
    """Return RunPodSandboxRequest.config, as it came."""
    return cri.PodSandboxConfig.FromString(record.config)


def container_config(record: Container) -> cri.ContainerConfig:
    """Return CreateContainerRequest.config, as it came."""
    return cri.ContainerConfig.FromString(record.config)


def pod_item(record: Sandbox) -> cri.PodSandbox:
    """Return a PodSandbox: a sandbox as an item of ListPodSandbox."""
    return cri.PodSandbox(
        id=record.id,
        metadata=_pod_metadata(record),
        state=SANDBOX_STATES[record.state],
        created_at=record.created_at,
        labels=record.labels,
        annotations=pod_config(record).annotations,
        runtime_handler=record.handler,
    )


def pod_status(record: Sandbox) -> cri.PodSandboxStatus:
    """Return a PodSandboxStatus. It has addresses (PodSandboxNetworkStatus) only while the sandbox is ready."""
    config = pod_config(record)
    network = cri.PodSandboxNetworkStatus()
    if record.ips and record.state is SandboxState.READY:
        network.ip = record.ips[0]
        network.additional_ips.extend(cri.PodIP(ip=ip) for ip in record.ips[1:])
    return cri.PodSandboxStatus(
        id=record.id,
        metadata=_pod_metadata(record),
        state=SANDBOX_STATES[record.state],
        created_at=record.created_at,
        network=network,
        linux=cri.LinuxPodSandboxStatus(
            namespaces=cri.Namespace(options=config.linux.security_context.namespace_options)
        ),
        labels=record.labels,
        annotations=config.annotations,
        runtime_handler=record.handler,
    )


def container_item(record: Container) -> cri.Container:
    """Return a Container: a container as an item of ListContainers."""
    config = container_config(record)
    return cri.Container(
        id=record.id,
        pod_sandbox_id=record.sandbox_id,
        metadata=config.metadata,
        image=config.image,
        image_ref=record.image_ref,
        state=CONTAINER_STATES[record.state],
        created_at=record.created_at,
        labels=record.labels,
        annotations=config.annotations,
        image_id=record.image_id,
    )


def container_status(record: Container) -> cri.ContainerStatus:
    """Return a ContainerStatus; its resources are those that CreateContainer requested or an update has set."""
    config = container_config(record)
    image = cri.ImageSpec()
    image.CopyFrom(config.image)
    image.image = record.image_name or config.image.image
    status = cri.ContainerStatus(
        id=record.id,
        metadata=config.metadata,
        state=CONTAINER_STATES[record.state],
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        exit_code=record.exit_code,
        image=image,
        image_ref=record.image_ref,
        reason=record.reason,
        message=record.message,
        labels=record.labels,
        annotations=config.annotations,
        mounts=_mounts(config.mounts, record.volume_images),
        log_path=record.log_path,
        image_id=record.image_id,
        user=cri.ContainerUser(
            linux=cri.LinuxContainerUser(uid=record.uid, gid=record.gid, supplemental_groups=record.supplemental_groups)
        ),
        stop_signal=signal_number(record.stop_signal),
    )
    if config.linux.HasField("resources"):
        status.resources.linux.CopyFrom(config.linux.resources)
    return status


def _pod_metadata(record: Sandbox) -> cri.PodSandboxMetadata:
    return cri.PodSandboxMetadata(name=record.name, uid=record.uid, namespace=record.namespace, attempt=record.attempt)


def _mounts(given: Iterable[cri.Mount], volumes: Sequence[ImageId]) -> list[cri.Mount]:
    """Return ContainerStatus.mounts: those of the request, with Mount.image.image_ref set to the image's id.

    `volumes` are the images of the image volumes, in the order of the mounts.
    """
    images = iter(volumes)
    found = []
    for mount in given:
        if is_image(mount):
            shown = cri.Mount()
            shown.CopyFrom(mount)
            shown.image.image_ref = next(images, "")
            found.append(shown)
        else:
            found.append(mount)
    return found
