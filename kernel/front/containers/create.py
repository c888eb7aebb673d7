"""CreateContainer: the longest spine, alone.

check, look up pod and image → intent → storage.judge → storage.mount → runtime.create → CREATED
"""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack

from msgspec.structs import replace

from kernel.contracts import runtime, storage
from kernel.contracts.oci import IdMap
from kernel.contracts.records import Container, ContainerState, Image, IntentKind, Sandbox, SandboxState
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import AlreadyExists, CrispError, FailedPrecondition, InvalidInput, NotFound
from kernel.front import flows
from kernel.front.containers import remove, restore
from kernel.front.context import Call, Front
from kernel.front.images import admission
from kernel.front.requests import container_config, mounts, user_namespaces
from kernel.front.requests.keys import ContainerKey
from kernel.front.responses import views
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, DiffId, Digest, ImageId, new_id
from kernel.state import lifecycle

_LOG = logging.getLogger(__name__)


async def create_container(
    front: Front, request: cri.CreateContainerRequest, call: Call
) -> cri.CreateContainerResponse:
    """CreateContainer. A repeat joins the attempt under way, or gets the container that waits to be started."""
    sandbox = front.replica.sandbox(request.pod_sandbox_id)
    name, attempt = container_config.container_name(request.config)
    join = (sandbox.id, name, str(attempt))
    if not front.creates.running(join):
        existing = _existing(front, (sandbox.id, name, attempt))
        if existing is not None and existing.state is ContainerState.CREATED:
            return cri.CreateContainerResponse(container_id=existing.id)
        source = await restore.find(front, request.config, call.deadline)
        if not front.creates.running(join):  # nobody else came so far while the checkpoint was read
            record, plan = _plan(front, sandbox, request.config, _existing(front, (sandbox.id, name, attempt)), source)
            begin(front, record, plan, call.flow_deadline())
    return cri.CreateContainerResponse(container_id=await front.creates.wait(join))


def begin(front: Front, record: Container, plan: runtime.CreateRequest, deadline: Deadline) -> None:
    """Begin the flow; the end of its pod waits for it."""
    task = front.creates.begin(
        (record.sandbox, record.name, str(record.attempt)),
        _create(front, record, plan, deadline),
        f"create {record.id[:13]}",
    )
    making = front.creating.setdefault(record.sandbox, set())
    making.add(task)

    def done(_: object) -> None:
        making.discard(task)
        if not making and front.creating.get(record.sandbox) is making:
            del front.creating[record.sandbox]

    task.add_done_callback(done)


def plan_again(front: Front, record: Container) -> runtime.CreateRequest:
    """The request of a record that a crash cut off."""
    image = front.replica.images[record.image_id]
    pod = views.pod_config(front.replica.sandboxes[record.sandbox])
    plan = container_config.plan_container(
        record.id,
        record.sandbox,
        views.container_config(record),
        pod,
        image=image.config,
        image_ref=record.image_ref,
    )
    return replace(plan, restores=True, image_name=record.image_name) if record.restored_from else plan


def _existing(front: Front, key: ContainerKey) -> Container | None:
    found = front.replica.container_named(key)
    if found is not None and found.state not in (ContainerState.CREATED, ContainerState.CREATING):
        raise AlreadyExists(
            f"container {found.id} is attempt {key[2]} of {key[1]!r} already, and is {found.state.value}",
            hint="remove it, or ask for the next attempt",
        )
    return found


def _plan(
    front: Front,
    sandbox: Sandbox,
    config: cri.ContainerConfig,
    existing: Container | None,
    source: restore.Source | None,
) -> tuple[Container, runtime.CreateRequest]:
    """The record and the runtime's request; every check that can be made before something is done."""
    if sandbox.state is not SandboxState.READY or front.replica.leaving(sandbox.id):
        raise FailedPrecondition(f"pod sandbox {sandbox.id} is not ready", hint="run a new pod sandbox")
    image = source.image if source else _image(front, container_config.image_of(config))
    image_ref = image.digests[0] if image.digests else image.id
    pod = views.pod_config(sandbox)
    container = existing.id if existing else ContainerId(new_id())
    plan = container_config.plan_container(container, sandbox.id, config, pod, image=image.config, image_ref=image_ref)
    if source:
        plan = replace(plan, restores=True, restored_mounts=source.origin.mounts, image_name=_names(image)[0])
    _check_target(front, plan)
    volumes = tuple(_volume_image(front, field, name).id for field, name in mounts.images(config.mounts))
    record = Container(
        id=container,
        sandbox=sandbox.id,
        name=plan.name,
        attempt=plan.attempt,
        state=ContainerState.CREATING,
        created_at=time.time_ns(),
        config=config.SerializeToString(),
        labels=plan.labels,
        image_id=image.id,
        image_ref=image_ref,
        image_name=_names(image)[0] if source else _shown_name(config, image),
        volume_images=volumes,
        log_path=container_config.log_path(config, pod)[1],
        restored_from=source.place if source else "",
        boot_id=front.boot_id,
    )
    return record, plan


def _image(front: Front, name: str) -> Image:
    image = front.replica.image(name)
    if image is None:
        raise NotFound(f"image {name!r} is not here", hint="pull it first")
    return image


def _names(image: Image) -> tuple[str, ...]:
    return (*image.tags, *image.digests, image.id)


def _volume_image(front: Front, field: str, name: str) -> Image:
    image = front.replica.image(name)
    if image is None:
        raise NotFound(f"{field}: image {name!r} is not here", hint="pull it first")
    return image


def _layers(front: Front, image_id: ImageId, name: str) -> tuple[DiffId, ...]:
    image = front.replica.images.get(image_id)
    if image is None:
        raise NotFound(f"image {name!r} was removed meanwhile")
    return tuple(layer.diff_id for layer in image.layers)


def _shown_name(config: cri.ContainerConfig, image: Image) -> str:
    """What status calls the image: as the user wrote it, or a tag rather than an id."""
    if config.image.user_specified_image:
        return config.image.user_specified_image
    asked = config.image.image
    by_id = image.id.removeprefix("sha256:").startswith(asked.removeprefix("sha256:"))
    return image.tags[0] if by_id and image.tags else asked


def _check_target(front: Front, plan: runtime.CreateRequest) -> None:
    target = plan.security.target
    if target is None:
        return
    field = "config.linux.security_context.namespace_options.target_id"
    record = front.replica.containers.get(target)
    if record is None or record.sandbox != plan.sandbox:
        raise InvalidInput(f"{field}: container {target} does not exist in pod sandbox {plan.sandbox}")
    if record.state is not ContainerState.RUNNING:
        raise FailedPrecondition(f"{field}: container {target} is not running")


async def _create(front: Front, record: Container, plan: runtime.CreateRequest, deadline: Deadline) -> ContainerId:
    async with front.locks.hold(record.id):
        intent = flows.intent(IntentKind.CREATE_CONTAINER, record.id)
        async with AsyncExitStack() as held:
            # A removal of an image holds its lock from its look for users to its end.
            for image in sorted({record.image_id, *record.volume_images}):
                await held.enter_async_context(front.locks.hold(image))
            await front.replica.commit(Commit(put_containers=(record,), begin=(intent,)), deadline)
        try:
            await _judge(front, record, deadline)
            id_map = _id_map(front, record)
            roots = storage.MountRequest(
                container=record.id,
                label=await _label(front, plan, deadline),
                layers=_layers(front, record.image_id, record.image_name),
                volumes=tuple(_layers(front, volume, volume) for volume in record.volume_images),
                user_namespace=record.sandbox if id_map else None,
                id_map=id_map,
            )
            mounted = await front.storage.call(storage.MOUNT, roots, deadline=deadline)
            if record.restored_from:
                await restore.take_in(front, record, deadline)
            whole = replace(plan, passwd=mounted.passwd, group=mounted.group)
            made = await front.runtime.call(runtime.CREATE, whole, deadline=deadline)
            created = lifecycle.container_created(
                record,
                pid=made.pid,
                uid=made.uid,
                gid=made.gid,
                supplemental_groups=made.supplemental_groups,
                stop_signal=made.stop_signal,
            )
            await front.replica.commit(Commit(put_containers=(created,), end=(record.id,)), deadline)
        except CrispError as error:
            await undo(front, record, why=error.message)
            raise
    return record.id


async def _judge(front: Front, record: Container, deadline: Deadline) -> None:
    """Untrusted where the policy does not accept one of the container's images now, whenever they were pulled."""
    config, namespace = views.container_config(record), front.replica.sandboxes[record.sandbox].namespace
    specs = [config.image, *(mount.image for mount in config.mounts if mounts.is_image(mount))]
    asked = [spec.user_specified_image or spec.image for spec in specs]
    named = [*zip((record.image_id, *record.volume_images), asked, strict=True)]
    if record.restored_from:  # the request names the checkpoint: an archive, or an image that is judged as well
        named[0] = (record.image_id, record.image_name)
        if not record.restored_from.startswith("/"):
            named.append((ImageId(Digest(record.restored_from)), asked[0]))
    for known, name in named:
        image = front.replica.images.get(known)
        if image is None:
            raise NotFound(f"image {name!r} was removed meanwhile")
        await admission.at_create(front, image, name, namespace, deadline)


def _id_map(front: Front, record: Container) -> IdMap | None:
    """The mapping of the pod's user namespace, which the request of the pod passed with."""
    options = views.pod_config(front.replica.sandboxes[record.sandbox]).linux.security_context.namespace_options
    return user_namespaces.of_pod("namespace_options", options)


async def _label(front: Front, plan: runtime.CreateRequest, deadline: Deadline) -> str:
    """The SELinux label of the container's files; empty on a host without SELinux, which costs no call."""
    if not (await front.platform(deadline)).selinux:
        return ""
    request = runtime.LabelRequest(
        sandbox=plan.sandbox, selinux=plan.security.selinux, privileged=plan.security.privileged
    )
    return (await front.runtime.call(runtime.MOUNT_LABEL, request, deadline=deadline)).label


async def undo(front: Front, record: Container, why: str) -> None:
    """Take away what a failed creation may have left; what cannot be is listed, EXITED, and tried again."""
    deadline = Deadline.after(flows.UNDO_SECONDS)
    try:
        await remove.release(front, record.id, deadline)
        await front.replica.commit(Commit(delete_containers=(record.id,), end=(record.id,)), deadline)
    except CrispError as error:
        _LOG.warning("container %s failed and cannot be taken away yet: %s", record.id[:13], error)
        front.replica.doomed.add(record.id)
        flows.keep_trying(front, "removal", record.id, lambda: _give_up(front, record, why))


async def _give_up(front: Front, record: Container, why: str) -> None:
    """Show the container as ended, so that it can be seen and removed, and remove it."""
    if record.id in front.replica.containers:
        ended = lifecycle.container_vanished(record, now=time.time_ns(), why=f"it could not be created: {why}")
        deadline = Deadline.after(flows.UNDO_SECONDS)
        await front.replica.commit(
            Commit(put_containers=(ended,), begin=(flows.intent(IntentKind.REMOVE_CONTAINER, record.id),)), deadline
        )
    await remove.remove_again(front, record.id)
