"""Records as the CRI shows them, and the filters of its lists. Pure.

A record is immutable, so what is made of it for a list is kept, serialised, as long as the record is: a list of a
hundred pods is a join of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from google.protobuf.message import Message

from kernel.contracts.records import Container, ContainerState, Image, Sandbox, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import mounts
from kernel.front.requests.container_config import signal_number

SANDBOX_STATES = {
    SandboxState.CREATING: cri.SANDBOX_NOTREADY,
    SandboxState.READY: cri.SANDBOX_READY,
    SandboxState.NOT_READY: cri.SANDBOX_NOTREADY,
}
CONTAINER_STATES = {
    ContainerState.CREATING: cri.CONTAINER_UNKNOWN,
    ContainerState.CREATED: cri.CONTAINER_CREATED,
    ContainerState.RUNNING: cri.CONTAINER_RUNNING,
    ContainerState.EXITED: cri.CONTAINER_EXITED,
    ContainerState.UNKNOWN: cri.CONTAINER_UNKNOWN,
}
_Record = TypeVar("_Record", Sandbox, Container, Image)


def pod_config(record: Sandbox) -> cri.PodSandboxConfig:
    """The configuration of RunPodSandbox, as it came."""
    return cri.PodSandboxConfig.FromString(record.config)


def container_config(record: Container) -> cri.ContainerConfig:
    """The configuration of CreateContainer, as it came."""
    return cri.ContainerConfig.FromString(record.config)


def pod_item(record: Sandbox) -> cri.PodSandbox:
    """A sandbox in a list."""
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
    """A sandbox by itself."""
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
    """A container in a list."""
    config = container_config(record)
    return cri.Container(
        id=record.id,
        pod_sandbox_id=record.sandbox,
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
    """A container by itself."""
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
        mounts=mounts.status(config.mounts, record.volume_images),
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


LIST_FIELD = 1
"""The field of the items in every list message and in every message of a list's stream."""


class Items(Generic[_Record]):
    """Records as fields of a list message, serialised: each is made once and kept as long as its record stays."""

    def __init__(self, make: Callable[[_Record], Message], number: int, limit: int = 4096) -> None:
        self._make: Callable[[_Record], Message] = make
        self._tag = bytes((number << 3 | _LENGTH_DELIMITED,))
        self._kept: dict[str, tuple[_Record, bytes]] = {}
        self._limit = limit

    def of(self, record: _Record) -> bytes:
        """One field of the list message."""
        kept = self._kept.get(record.id)
        if kept is not None and kept[0] is record:
            return kept[1]
        body = self._make(record).SerializeToString()
        item = self._tag + _varint(len(body)) + body
        if len(self._kept) >= self._limit:  # most of it belongs to records that are gone
            self._kept.clear()
        self._kept[record.id] = (record, item)
        return item


_LENGTH_DELIMITED = 2


def _varint(value: int) -> bytes:
    """A length as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def pods_that_pass(records: Iterable[Sandbox], given: cri.PodSandboxFilter) -> Iterator[Sandbox]:
    """Sandboxes that a filter names; an id may be cut short."""
    for record in records:
        if given.id and not record.id.startswith(given.id):
            continue
        if given.HasField("state") and SANDBOX_STATES[record.state] != given.state.state:
            continue
        if _labels_match(record.labels, given.label_selector):
            yield record


def containers_that_pass(records: Iterable[Container], given: cri.ContainerFilter) -> Iterator[Container]:
    """Containers that a filter names; ids may be cut short."""
    for record in records:
        if given.id and not record.id.startswith(given.id):
            continue
        if given.pod_sandbox_id and not record.sandbox.startswith(given.pod_sandbox_id):
            continue
        if given.HasField("state") and CONTAINER_STATES[record.state] != given.state.state:
            continue
        if _labels_match(record.labels, given.label_selector):
            yield record


def _labels_match(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def _pod_metadata(record: Sandbox) -> cri.PodSandboxMetadata:
    return cri.PodSandboxMetadata(name=record.name, uid=record.uid, namespace=record.namespace, attempt=record.attempt)
