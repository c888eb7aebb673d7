from __future__ import annotations

from pathlib import Path

import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, Device, Security
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.node import devices
from services.runtime.spec import additions
from services.runtime.spec.security_context.user import User

OWNER = User(uid=1000, gid=1001, supplemental_groups=())
NULL = Device(container_path="/dev/n", host_path="/dev/null", permissions="rw")


PLAIN = Security()


def request(*asked: Device, security: Security = PLAIN) -> CreateRequest:
    return CreateRequest(
        container_id=ContainerId("c" * 64), sandbox_id=SandboxId("a" * 64), name="n", attempt=0, image=ImageConfig(),
        image_name="box", image_ref="box", devices=asked, security=security,
    )  # fmt: skip


def test_a_device() -> None:
    (node,) = devices.find(request(NULL), (), (), None)
    assert (node.path, node.kind, node.major, node.minor, node.permissions) == ("/dev/n", "c", 1, 3, "rw")


def test_a_privileged_container_has_the_hosts() -> None:
    found = devices.find(request(security=Security(privileged=True)), (), (), None)
    assert "/dev/null" in {node.path for node in found}


def test_devices_of_the_configuration() -> None:
    asked = request(NULL)
    found = {node.path: node for node in devices.find(asked, ("/dev/zero:/dev/z:r", "/dev/full:/dev/n"), (), None)}
    assert (found["/dev/z"].minor, found["/dev/z"].permissions) == (5, "r")
    assert found["/dev/n"].minor == 3  # the request's comes instead
    for wrong in ("/dev/zero:/a:/b", "/dev/zero:rx"):
        with pytest.raises(FailedPrecondition, match="additional_devices"):
            devices.find(asked, (wrong,), (), None)
    with pytest.raises(FailedPrecondition, match="additional_devices"):
        devices.find(asked, ("/no/such",), (), None)


def test_the_owner_of_the_security_context() -> None:
    (node,) = devices.find(request(NULL), (), (), OWNER)
    assert (node.uid, node.gid) == (1000, 1001)


def test_a_device_of_a_specification() -> None:
    whole = additions.CdiNode(path="/dev/v", host_path="/nowhere", kind="c", major=9, minor=8, permissions="r", gid=5)
    found = additions.CdiNode(path="/dev/w", host_path="/dev/null", mode=0o600)
    first, second = devices.find(request(), (), (whole, found), OWNER)
    assert (first.major, first.minor, first.uid, first.gid, first.permissions) == (9, 8, 1000, 5, "r")
    assert (second.major, second.minor, second.mode) == (1, 3, 0o600)
    with pytest.raises(InvalidInput, match="/nowhere"):
        devices.find(request(), (), (additions.CdiNode(path="/dev/x", host_path="/nowhere"),), None)
    with pytest.raises(InvalidInput, match="type"):
        devices.find(request(), (), (additions.CdiNode(path="/dev/x", host_path="/dev/null", kind="b"),), None)


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
        devices.find(request(device), (), (), None)


def test_a_folder_of_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_READ_LIMIT", 10)
    for number in range(12):
        (tmp_path / str(number)).touch()
    with pytest.raises(InvalidInput, match="more than"):
        devices.find(request(Device(container_path="/d", host_path=str(tmp_path), permissions="r")), (), (), None)
