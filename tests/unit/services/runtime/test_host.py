from __future__ import annotations

from pathlib import Path

import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, Device, Mount, Security
from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime import cgroup, host


def request(**fields: object) -> CreateRequest:
    values: dict[str, object] = {"image": ImageConfig(), **fields}
    return CreateRequest(
        container=ContainerId("c" * 64), sandbox=SandboxId("a" * 64), name="n", attempt=0, image_name="box",
        image_ref="box", **values,  # type: ignore[arg-type]
    )  # fmt: skip


def test_what_the_host_allows() -> None:
    found = host.read(cgroup.hierarchies())
    assert found.controllers
    assert found.hostname == host.host_name()


def test_sources_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    asked = request(mounts=(Mount(container_path="/x", host_path=f"{tmp_path}/link/../link"),))
    assert host.mount_sources(asked) == (f"{tmp_path}/real",)
    with pytest.raises(InvalidInput, match=r"mounts\[0\]\.host_path: '/no/such' does not exist"):
        host.mount_sources(request(mounts=(Mount(container_path="/x", host_path="/no/such"),)))


def test_devices() -> None:
    (node,) = host.devices(request(devices=(Device(container_path="/dev/n", host_path="/dev/null", permissions="rw"),)))
    assert (node.path, node.kind, node.major, node.minor, node.permissions) == ("/dev/n", "c", 1, 3, "rw")
    assert "/dev/null" in {node.path for node in host.devices(request(security=Security(privileged=True)))}


@pytest.mark.parametrize(
    ("path", "source", "permissions"),
    [
        ("/dev/x", "/etc/passwd", "r"),
        ("/dev/x", "/dev/../etc/shadow", "r"),
        ("/dev/x", "/no/such", "r"),
        ("/dev/x", "dev/null", "r"),
        ("/dev/../x", "/dev/null", "r"),
        ("/dev/x", "/dev/null", "rwmx"),
        ("/dev/x", "/dev/null", ""),
    ],
)
def test_what_is_no_device_is_refused(path: str, source: str, permissions: str) -> None:
    device = Device(container_path=path, host_path=source, permissions=permissions)
    with pytest.raises(InvalidInput, match=r"devices\[0\]"):
        host.devices(request(devices=(device,)))


def test_volumes_stay_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "var").mkdir(parents=True)
    (root / "out").symlink_to("/../../var")
    asked = request(image=ImageConfig(volumes=("/data/in", "/../../up", "/out/deep")))
    assert host.volumes(root, asked) == (
        ("/data/in", f"{root}/data/in"), ("/out/deep", f"{root}/var/deep"), ("/up", f"{root}/up"),
    )  # fmt: skip
    assert not (tmp_path / "up").exists()
    for volume in ("/", "/proc/x", "/sys/../proc"):
        with pytest.raises(InvalidInput, match="Volumes"):
            host.volumes(root, request(image=ImageConfig(volumes=(volume,))))
