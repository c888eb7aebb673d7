from __future__ import annotations

import pytest

from kernel.contracts.runtime import Mount, Propagation
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import InvalidInput
from kernel.front.requests import mounts


def host(**fields: object) -> cri.Mount:
    return cri.Mount(**{"container_path": "/x", "host_path": "/h", **fields})  # type: ignore[arg-type]


def image(name: str = "box", **fields: object) -> cri.Mount:
    values = {"container_path": "/v", "readonly": True, "image": cri.ImageSpec(image=name), **fields}
    return cri.Mount(**values)  # type: ignore[arg-type]


def test_a_host_path() -> None:
    given = host(readonly=True, propagation=cri.PROPAGATION_HOST_TO_CONTAINER, mount_options=["noexec", "nodev"])
    assert mounts.plan([given]) == (
        Mount(
            container_path="/x", host_path="/h", readonly=True, propagation=Propagation.HOST_TO_CONTAINER,
            options=("noexec", "nodev"),
        ),
    )  # fmt: skip


def test_images_are_numbered_in_their_order() -> None:
    given = [image("a"), host(), image("b", image_sub_path="sub/dir")]
    first, _, last = mounts.plan(given)
    assert (first.image_volume, last.image_volume, last.image_sub_path) == (0, 1, "sub/dir")
    assert mounts.images(given) == (("config.mounts[0].image", "a"), ("config.mounts[2].image", "b"))


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("container_path", host(container_path="x")),
        ("container_path", host(container_path="/a/../b")),
        ("container_path", host(container_path="/.")),
        ("container_path", image(container_path="/")),
        ("host_path", host(host_path="")),
        ("host_path", host(host_path="h")),
        ("host_path", image(host_path="/h")),
        ("propagation", host(propagation=9)),
        ("propagation", image(propagation=cri.PROPAGATION_BIDIRECTIONAL)),
        ("readonly", image(readonly=False)),
        ("recursive_read_only", host(recursive_read_only=True)),
        ("image_sub_path", host(image_sub_path="a")),
        ("image_sub_path", image(image_sub_path="../a")),
        ("image_sub_path", image(image_sub_path="/a")),
        ("image_sub_path", image(image_sub_path="a\0b")),
        ("mount_options[1]", host(mount_options=["nodev", "rw"])),
        ("mount_options[0]", image(mount_options=["upperdir=/x"])),
    ],
)
def test_what_is_wrong_is_named(field: str, given: cri.Mount) -> None:
    with pytest.raises(InvalidInput) as caught:
        mounts.plan([host(), given])
    assert caught.value.message.startswith(f"config.mounts[1].{field}: ")


def test_how_many_there_may_be() -> None:
    with pytest.raises(InvalidInput, match=r"config\.mounts"):
        mounts.plan([host()] * 4097)
    with pytest.raises(InvalidInput, match="images"):
        mounts.plan([image()] * 65)
    with pytest.raises(InvalidInput, match="CDI_devices"):
        mounts.cdi_devices([cri.CDIDevice(name="a")] * 1025)


@pytest.mark.parametrize("given", [host(), image()])
def test_mappings_of_ids_are_checked(given: cri.Mount) -> None:
    given.uidMappings.add(length=1)
    with pytest.raises(InvalidInput, match=r"uidMappings\[0\]\.host_id"):
        mounts.plan([given])
    given.uidMappings[0].host_id = 5
    with pytest.raises(InvalidInput, match="gidMappings"):
        mounts.plan([given])


def test_ids_of_a_host_path_are_mapped() -> None:
    given = host()
    given.uidMappings.add(host_id=5, length=1)
    given.gidMappings.add(host_id=6, length=2)
    (planned,) = mounts.plan([given])
    assert planned.id_map is not None
    assert planned.id_map.root == (5, 6)


def test_devices() -> None:
    config = cri.ContainerConfig(CDI_devices=[cri.CDIDevice(name="v.com/c=a")])
    assert mounts.cdi_devices(config.CDI_devices) == ("v.com/c=a",)
    (found,) = mounts.devices([cri.Device(container_path="/dev/a", host_path="/dev/b", permissions="rm")])
    assert (found.container_path, found.host_path, found.permissions) == ("/dev/a", "/dev/b", "rm")
    with pytest.raises(InvalidInput, match=r"config\.devices\[0\]\.permissions"):
        mounts.devices([cri.Device(container_path="/dev/a", host_path="/dev/b", permissions="x")])
