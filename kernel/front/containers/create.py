"""CreateContainer: the longest flow.

    checks (`create_plan`) → intent → storage.judge → storage.mount → runtime.create → CREATED

Storage judges the images by the policy for signatures that holds now, whenever they were pulled.
"""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack

from msgspec.structs import replace

from kernel.contracts import runtime, storage
from kernel.contracts.oci import IdMap
from kernel.contracts.records import Container, ContainerState, IntentKind, SandboxState
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import AlreadyExists, CrispError, NotFound
from kernel.front import flows
from kernel.front.containers import create_plan, remove, restore
from kernel.front.context import Call, Front
from kernel.front.images import admission
from kernel.front.requests import container_config, keys, mounts, user_namespaces
from kernel.front.requests.keys import ContainerKey
from kernel.front.responses import views
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, DiffId, Digest, ImageId, short
from kernel.state import lifecycle

_LOG = logging.getLogger(__name__)


async def create_container(
    front: Front, request: cri.CreateContainerRequest, call: Call
) -> cri.CreateContainerResponse:
    """Serve CreateContainer. A repeat joins the attempt under way, or gets the container that waits to be started."""
    sandbox = front.replica.sandbox(request.pod_sandbox_id)
    name, attempt = container_config.container_name(request.config)
    key = (sandbox.id, name, attempt)
    if not front.creates.running(key):
        existing = _existing(front, key)
        if existing is not None and existing.state is ContainerState.CREATED:
            return cri.CreateContainerResponse(container_id=existing.id)
        source = await restore.find(front, request.config, call.deadline)
        if not front.creates.running(key):  # no repeat has begun while the checkpoint was read
            record, plan = create_plan.plan(front, sandbox, request.config, _existing(front, key), source)
            _begin(front, record, plan, call.flow_deadline())
    return cri.CreateContainerResponse(container_id=await front.creates.wait(key))


async def create_again(front: Front, record: Container, deadline: Deadline) -> None:
    """Go on with a creation that a crash cut off, or join the repeat of the kubelet's that has begun meanwhile.

    Without its pod or its image the container is removed instead.
    """
    key = keys.of_container(record)
    if not front.creates.running(key):
        pod = front.replica.sandboxes.get(record.sandbox_id)
        ready = pod is not None and pod.state is SandboxState.READY and not front.replica.leaving(pod.id)
        if not ready or record.image_id not in front.replica.images:
            await flows.join(front, ("remove", record.id), lambda: remove.remove(front, record.id, deadline))
            return
        _begin(front, record, create_plan.plan_again(front, record), deadline)
    await front.creates.wait(key)


def _begin(front: Front, record: Container, plan: runtime.CreateRequest, deadline: Deadline) -> None:
    """Begin the flow; the end of its pod waits for it."""
    task = front.creates.begin(
        keys.of_container(record), _create(front, record, plan, deadline), f"create {short(record.id)}"
    )
    creating = front.creating.setdefault(record.sandbox_id, set())
    creating.add(task)

    def ended(_: object) -> None:
        creating.discard(task)
        if not creating and front.creating.get(record.sandbox_id) is creating:
            del front.creating[record.sandbox_id]

    task.add_done_callback(ended)


def _existing(front: Front, key: ContainerKey) -> Container | None:
    """Return the container that a repeat with this key stands for, if it is created or being created."""
    found = front.replica.container_named(key)
    if found is not None and found.state not in (ContainerState.CREATED, ContainerState.CREATING):
        raise AlreadyExists(
            f"container {found.id} is attempt {key[2]} of {key[1]!r} already, and is {found.state.value}",
            hint="remove it, or ask for the next attempt",
        )
    return found


async def _create(front: Front, record: Container, plan: runtime.CreateRequest, deadline: Deadline) -> ContainerId:
    async with front.locks.hold(record.id):
        intent = flows.intent(IntentKind.CREATE_CONTAINER, record.id)
        async with AsyncExitStack() as held:
            # The removal of an image holds its lock from its search for users to its end.
            for image in sorted({record.image_id, *record.volume_images}):
                await held.enter_async_context(front.locks.hold(image))
            await front.replica.commit(Commit(put_containers=(record,), begin=(intent,)), deadline)
        try:
            await _judge(front, record, deadline)
            mounted = await _mount(front, record, plan, deadline)
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
            await _undo(front, record, reason=error.message)
            raise
    return record.id


async def _judge(front: Front, record: Container, deadline: Deadline) -> None:
    """Raise Untrusted unless the policy accepts each of the container's images now."""
    config, namespace = views.container_config(record), front.replica.sandboxes[record.sandbox_id].namespace
    specs = [config.image, *(mount.image for mount in config.mounts if mounts.is_image(mount))]
    names = [spec.user_specified_image or spec.image for spec in specs]
    used = [*zip((record.image_id, *record.volume_images), names, strict=True)]
    if record.restored_from:  # the request names the checkpoint: an archive, or an image that is judged as well
        used[0] = (record.image_id, record.image_name)
        if not record.restored_from.startswith("/"):
            used.append((ImageId(Digest(record.restored_from)), names[0]))
    for image_id, name in used:
        image = front.replica.images.get(image_id)
        if image is None:
            raise NotFound(f"image {name!r} was removed meanwhile")
        await admission.at_create(front, image, name, namespace, deadline)


async def _mount(front: Front, record: Container, plan: runtime.CreateRequest, deadline: Deadline) -> storage.Mounted:
    """Have the root file system and the image volumes mounted."""
    id_map = _id_map(front, record)
    request = storage.MountRequest(
        container_id=record.id,
        label=await _label(front, plan, deadline),
        layers=_layers(front, record.image_id, record.image_name),
        volumes=tuple(_layers(front, volume, volume) for volume in record.volume_images),
        user_namespace=record.sandbox_id if id_map else None,
        id_map=id_map,
    )
    return await front.storage.call(storage.MOUNT, request, deadline=deadline)


def _layers(front: Front, image_id: ImageId, name: str) -> tuple[DiffId, ...]:
    image = front.replica.images.get(image_id)
    if image is None:
        raise NotFound(f"image {name!r} was removed meanwhile")
    return tuple(layer.diff_id for layer in image.layers)


def _id_map(front: Front, record: Container) -> IdMap | None:
    """Return the mapping of the pod's user namespace, which was checked when the pod was made."""
    options = views.pod_config(front.replica.sandboxes[record.sandbox_id]).linux.security_context.namespace_options
    return user_namespaces.of_pod("namespace_options", options)


async def _label(front: Front, plan: runtime.CreateRequest, deadline: Deadline) -> str:
    """Return the SELinux label of the container's files; empty on a host without SELinux, which costs no call."""
    if not (await front.platform(deadline)).selinux:
        return ""
    request = runtime.LabelRequest(
        sandbox_id=plan.sandbox_id, selinux=plan.security.selinux, privileged=plan.security.privileged
    )
    return (await front.runtime.call(runtime.MOUNT_LABEL, request, deadline=deadline)).label


async def _undo(front: Front, record: Container, reason: str) -> None:
    """Remove what a failed creation may have left.

    If that fails too, the container is listed as EXITED and its removal is tried again in the background.
    """
    deadline = Deadline.after(flows.UNDO_SECONDS)
    try:
        await remove.release(front, record.id, deadline)
        await front.replica.commit(Commit(delete_containers=(record.id,), end=(record.id,)), deadline)
    except CrispError as error:
        _LOG.warning("container %s: it could not be made, and cannot be removed yet: %s", short(record.id), error)
        front.replica.doomed.add(record.id)
        flows.keep_trying(front, "removal", record.id, lambda: _give_up(front, record, reason))


async def _give_up(front: Front, record: Container, reason: str) -> None:
    """Show the container as ended, so that it can be seen and removed, and remove it."""
    if record.id in front.replica.containers:
        ended = lifecycle.container_vanished(record, now=time.time_ns(), why=f"it could not be created: {reason}")
        intent = flows.intent(IntentKind.REMOVE_CONTAINER, record.id)
        deadline = Deadline.after(flows.UNDO_SECONDS)
        await front.replica.commit(Commit(put_containers=(ended,), begin=(intent,)), deadline)
    await remove.remove_again(front, record.id)
