"""Mount, Device and CDIDevice of ContainerConfig, checked and translated; which images are volumes. Pure.

What needs the host (whether a source exists, which mounts are shared) is checked by the runtime worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kernel.contracts.runtime import Device, Mount, Propagation
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import fields, user_namespaces

MAX_MOUNTS = 4096
MAX_IMAGE_VOLUMES = 64
MAX_CDI_DEVICES = 1024
OPTIONS = frozenset({
    "noexec", "exec", "nodev", "dev", "nosuid", "suid", "noatime", "atime", "nodiratime", "diratime", "relatime",
    "norelatime", "strictatime", "nostrictatime", "sync", "async",
})  # fmt: skip
"""The allowed Mount.mount_options: how a mount is used. What has a field of its own, and options of file systems, are
refused."""
_PROPAGATION = {
    cri.PROPAGATION_PRIVATE: Propagation.PRIVATE,
    cri.PROPAGATION_HOST_TO_CONTAINER: Propagation.HOST_TO_CONTAINER,
    cri.PROPAGATION_BIDIRECTIONAL: Propagation.BIDIRECTIONAL,
}


def plan(given: Sequence[cri.Mount]) -> tuple[Mount, ...]:
    """Return ContainerConfig.mounts. Those with an image are numbered from 0 in their order."""
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
    """Return whether Mount.image is set: an image is mounted rather than a host path."""
    return bool(mount.image.image)


def images(given: Iterable[cri.Mount]) -> tuple[tuple[str, str], ...]:
    """Return the path of the field and the value of Mount.image (ImageSpec.image) of each image volume, in order."""
    return tuple(
        (f"config.mounts[{index}].image", fields.text(f"config.mounts[{index}].image.image", mount.image.image))
        for index, mount in enumerate(given)
        if is_image(mount)
    )


def devices(given: Iterable[cri.Device]) -> tuple[Device, ...]:
    """Return ContainerConfig.devices: devices of the host."""
    return tuple(_device(f"config.devices[{index}]", device) for index, device in enumerate(given))


def cdi_devices(given: Sequence[cri.CDIDevice]) -> tuple[str, ...]:
    """Return ContainerConfig.CDI_devices by their qualified names.

    CDI devices that annotations name are read by the runtime worker, which gets the annotations.
    """
    if len(given) > MAX_CDI_DEVICES:
        fields.refuse("config.CDI_devices", f"are more than {MAX_CDI_DEVICES}")
    return tuple(
        fields.text(f"config.CDI_devices[{index}].name", device.name, limit=512) for index, device in enumerate(given)
    )


def _image(field: str, mount: cri.Mount, number: int) -> Mount:
    """Return a Mount of an image: image, image_sub_path, container_path, readonly, mount_options."""
    if mount.host_path:
        fields.refuse(f"{field}.host_path", "is given beside an image")
    if not mount.readonly:
        fields.refuse(f"{field}.readonly", "is not set: an image can only be mounted read-only")
    if mount.propagation != cri.PROPAGATION_PRIVATE:
        fields.refuse(f"{field}.propagation", "is set: mounts of an image have none")
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
    """Return a Mount of a host path: all fields but image and image_sub_path."""
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
    """Return Mount.mount_options."""
    for index, option in enumerate(mount.mount_options):
        if option not in OPTIONS:
            fields.refuse(
                f"{field}.mount_options[{index}]", f"{option[:80]!r} is not one of {', '.join(sorted(OPTIONS))}"
            )
    return tuple(mount.mount_options)


def _device(field: str, device: cri.Device) -> Device:
    """Return a Device: container_path, host_path, permissions."""
    if not device.permissions or set(device.permissions) - set("rwm"):
        fields.refuse(f"{field}.permissions", f"{device.permissions[:80]!r} is not made of r, w and m")
    return Device(
        container_path=fields.path(f"{field}.container_path", device.container_path),
        host_path=fields.path(f"{field}.host_path", device.host_path),
        permissions=device.permissions,
    )
