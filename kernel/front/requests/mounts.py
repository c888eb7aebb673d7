"""Mounts and devices of a container's CRI configuration into the runtime's; which images are its volumes. Pure.

What only the host can tell (whether a source exists, which mounts are shared) is the runtime's to check.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kernel.contracts.runtime import Device, Mount, Propagation
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import fields, user_namespaces
from kernel.ids import ImageId

MAX_MOUNTS = 4096
MAX_IMAGE_VOLUMES = 64
MAX_CDI_DEVICES = 1024
OPTIONS = frozenset({
    "noexec", "exec", "nodev", "dev", "nosuid", "suid", "noatime", "atime", "nodiratime", "diratime", "relatime",
    "norelatime", "strictatime", "nostrictatime", "sync", "async",
})  # fmt: skip
"""What `mount_options` may say: how a mount is used. Not what has a field of its own, nor a file system's options."""
_PROPAGATION = {
    cri.PROPAGATION_PRIVATE: Propagation.PRIVATE,
    cri.PROPAGATION_HOST_TO_CONTAINER: Propagation.HOST_TO_CONTAINER,
    cri.PROPAGATION_BIDIRECTIONAL: Propagation.BIDIRECTIONAL,
}


def plan(given: Sequence[cri.Mount]) -> tuple[Mount, ...]:
    """The mounts; image volumes are numbered in their order."""
    if len(given) > MAX_MOUNTS:
        fields.refuse("config.mounts", f"are more than {MAX_MOUNTS}")
    found = []
    numbers = 0
    for index, mount in enumerate(given):
        field = f"config.mounts[{index}]"
        if is_image(mount):
            found.append(_image(field, mount, numbers))
            numbers += 1
        else:
            found.append(_host(field, mount))
    if numbers > MAX_IMAGE_VOLUMES:
        fields.refuse("config.mounts", f"have more than {MAX_IMAGE_VOLUMES} images")
    return tuple(found)


def is_image(mount: cri.Mount) -> bool:
    """Whether an image is to be mounted rather than a host path."""
    return bool(mount.image.image)


def images(given: Iterable[cri.Mount]) -> tuple[tuple[str, str], ...]:
    """Field and name of each image volume's image, in their order."""
    return tuple(
        (f"config.mounts[{index}].image", fields.text(f"config.mounts[{index}].image.image", mount.image.image))
        for index, mount in enumerate(given)
        if is_image(mount)
    )


def status(given: Iterable[cri.Mount], volumes: Sequence[ImageId]) -> list[cri.Mount]:
    """The mounts as ContainerStatus has them: an image volume with its image's digest."""
    known = iter(volumes)
    found = []
    for mount in given:
        if is_image(mount):
            shown = cri.Mount()
            shown.CopyFrom(mount)
            shown.image.image_ref = next(known, "")
            found.append(shown)
        else:
            found.append(mount)
    return found


def devices(given: Iterable[cri.Device]) -> tuple[Device, ...]:
    """The devices of the host that are asked for."""
    return tuple(_device(f"config.devices[{index}]", device) for index, device in enumerate(given))


def cdi_devices(config: cri.ContainerConfig) -> tuple[str, ...]:
    """CDI devices by their qualified names. The annotation form is read by the runtime, with the annotations."""
    if len(config.CDI_devices) > MAX_CDI_DEVICES:
        fields.refuse("config.CDI_devices", f"are more than {MAX_CDI_DEVICES}")
    return tuple(
        fields.text(f"config.CDI_devices[{index}].name", device.name, limit=512)
        for index, device in enumerate(config.CDI_devices)
    )


def _image(field: str, mount: cri.Mount, number: int) -> Mount:
    if mount.host_path:
        fields.refuse(f"{field}.host_path", "is given beside an image")
    if not mount.readonly:
        fields.refuse(f"{field}.readonly", "is not set: an image can only be mounted read-only")
    if mount.propagation != cri.PROPAGATION_PRIVATE:
        fields.refuse(f"{field}.propagation", "an image is mounted without")
    user_namespaces.of_mount(field, mount)  # an image is mapped as the pod's root file system is
    sub_path = fields.text(f"{field}.image_sub_path", mount.image_sub_path)
    if sub_path.startswith("/") or ".." in sub_path.split("/"):
        fields.refuse(f"{field}.image_sub_path", f"{sub_path!r} is not a relative path without '..'")
    return Mount(
        container_path=_container_path(field, mount),
        image_volume=number,
        image_sub_path=sub_path,
        readonly=True,
        options=_options(field, mount),
    )


def _host(field: str, mount: cri.Mount) -> Mount:
    if mount.image_sub_path:
        fields.refuse(f"{field}.image_sub_path", "is given without an image")
    container_path = _container_path(field, mount)
    if mount.propagation not in _PROPAGATION:
        fields.refuse(f"{field}.propagation", f"{mount.propagation} is unknown")
    propagation = _PROPAGATION[mount.propagation]
    if mount.recursive_read_only and not (mount.readonly and propagation is Propagation.PRIVATE):
        fields.refuse(f"{field}.recursive_read_only", "needs readonly, and no propagation")
    return Mount(
        container_path=container_path,
        host_path=fields.path(f"{field}.host_path", mount.host_path),
        readonly=mount.readonly,
        recursive_read_only=mount.recursive_read_only,
        propagation=propagation,
        selinux_relabel=mount.selinux_relabel,
        id_map=user_namespaces.of_mount(field, mount),
        options=_options(field, mount),
    )


def _container_path(field: str, mount: cri.Mount) -> str:
    path = fields.path(f"{field}.container_path", mount.container_path)
    if not path.strip("/."):
        fields.refuse(f"{field}.container_path", "is the container's root")
    return path


def _options(field: str, mount: cri.Mount) -> tuple[str, ...]:
    for index, option in enumerate(mount.mount_options):
        if option not in OPTIONS:
            fields.refuse(
                f"{field}.mount_options[{index}]", f"{option[:80]!r} is not one of {', '.join(sorted(OPTIONS))}"
            )
    return tuple(mount.mount_options)


def _device(field: str, device: cri.Device) -> Device:
    if not device.permissions or set(device.permissions) - set("rwm"):
        fields.refuse(f"{field}.permissions", f"{device.permissions[:80]!r} is not made of r, w and m")
    return Device(
        container_path=fields.path(f"{field}.container_path", device.container_path),
        host_path=fields.path(f"{field}.host_path", device.host_path),
        permissions=device.permissions,
    )
