"""The plan of a CreateContainer: the container's record, and the runtime's request.

All checks that need no action are made here.
"""

from __future__ import annotations

import time

from msgspec.structs import replace

from kernel.contracts import runtime
from kernel.contracts.records import Container, ContainerState, Image, Sandbox, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition, InvalidInput, NotFound
from kernel.front.containers import restore
from kernel.front.context import Front
from kernel.front.requests import container_config, mounts
from kernel.front.responses import views
from kernel.ids import ContainerId, new_id


def plan(
    front: Front,
    sandbox: Sandbox,
    config: cri.ContainerConfig,
    existing: Container | None,
    source: restore.Source | None,
) -> tuple[Container, runtime.CreateRequest]:
    """Return the record and the runtime's request.

    `existing` is a container whose creation was cut off: it is made again under its id. `source` is the checkpoint
    that the container is restored from.
    """
    if sandbox.state is not SandboxState.READY or front.replica.leaving(sandbox.id):
        raise FailedPrecondition(f"pod sandbox {sandbox.id} is not ready", hint="run a new pod sandbox")
    image = source.image if source else _image(front, container_config.image_of(config))
    image_ref = image.digests[0] if image.digests else image.id
    pod = views.pod_config(sandbox)
    container_id = existing.id if existing else ContainerId(new_id())
    request = container_config.plan_container(
        container_id, sandbox.id, config, pod, image=image.config, image_ref=image_ref
    )
    if source:
        request = replace(request, restores=True, restored_mounts=source.origin.mounts, image_name=_names(image)[0])
    _check_target(front, request)
    volumes = tuple(_image(front, name, f"{field}: ").id for field, name in mounts.images(config.mounts))
    record = Container(
        id=container_id,
        sandbox_id=sandbox.id,
        name=request.name,
        attempt=request.attempt,
        state=ContainerState.CREATING,
        created_at=time.time_ns(),
        config=config.SerializeToString(),
        labels=request.labels,
        image_id=image.id,
        image_ref=image_ref,
        image_name=_names(image)[0] if source else _shown_name(config, image),
        volume_images=volumes,
        log_path=container_config.log_path(config, pod)[1],
        restored_from=source.place if source else "",
        boot_id=front.boot_id,
    )
    return record, request


def plan_again(front: Front, record: Container) -> runtime.CreateRequest:
    """Return the runtime's request for a record whose creation a crash cut off."""
    image = front.replica.images[record.image_id]
    pod = views.pod_config(front.replica.sandboxes[record.sandbox_id])
    request = container_config.plan_container(
        record.id,
        record.sandbox_id,
        views.container_config(record),
        pod,
        image=image.config,
        image_ref=record.image_ref,
    )
    return replace(request, restores=True, image_name=record.image_name) if record.restored_from else request


def _image(front: Front, name: str, where: str = "") -> Image:
    """Return an image by name; `where` is the request's field, with which the error's message begins."""
    image = front.replica.image(name)
    if image is None:
        raise NotFound(f"{where}image {name!r} is not here", hint="pull it first")
    return image


def _names(image: Image) -> tuple[str, ...]:
    return (*image.tags, *image.digests, image.id)


def _shown_name(config: cri.ContainerConfig, image: Image) -> str:
    """Return the image's name in status: the name that the user wrote, or a tag rather than an id."""
    if config.image.user_specified_image:
        return config.image.user_specified_image
    given = config.image.image
    by_id = image.id.removeprefix("sha256:").startswith(given.removeprefix("sha256:"))
    return image.tags[0] if by_id and image.tags else given


def _check_target(front: Front, request: runtime.CreateRequest) -> None:
    """Check that the container whose PID namespace is to be shared runs in this pod."""
    target = request.security.target
    if target is None:
        return
    field = "config.linux.security_context.namespace_options.target_id"
    record = front.replica.containers.get(target)
    if record is None or record.sandbox_id != request.sandbox_id:
        raise InvalidInput(f"{field}: container {target} does not exist in pod sandbox {request.sandbox_id}")
    if record.state is not ContainerState.RUNNING:
        raise FailedPrecondition(f"{field}: container {target} is not running")
