from __future__ import annotations

import msgspec
import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, Mount, NamespaceMode, PodRequest, Propagation, Security
from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.spec import oci_mounts
from services.runtime.spec.oci_mounts import OciMount, Sources

POD = PodRequest(sandbox_id=SandboxId("a" * 64), name="pod", namespace="ns", uid="u")
REQUEST = CreateRequest(
    container_id=ContainerId("c" * 64), sandbox_id=POD.sandbox_id, name="box", attempt=0, image=ImageConfig(),
    image_name="box", image_ref="box",
)  # fmt: skip
PLAIN = Security()


def plan(*mounts: Mount, pod: PodRequest = POD, hosts: str = "", security: Security = PLAIN) -> dict[str, OciMount]:
    request = msgspec.structs.replace(REQUEST, mounts=mounts, security=security)
    sources = Sources(
        shm="/p/shm", resolv_conf="/p/resolv", hostname="/p/hostname", hosts=hosts,
        mounts=tuple(f"/real{mount.host_path}" for mount in mounts), volumes=(("/vol", "/root/vol"),),
    )  # fmt: skip
    return {str(mount["destination"]): mount for mount in oci_mounts.plan(pod, request, sources)}


def mount(path: str, host: str = "/h", **fields: object) -> Mount:
    return Mount(container_path=path, host_path=host, **fields)  # type: ignore[arg-type]


def test_the_default_ones() -> None:
    found = plan()
    assert set(found) == {
        "/proc", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm", "/sys", "/sys/fs/cgroup", "/etc/resolv.conf",
        "/etc/hostname", "/vol",
    }  # fmt: skip
    assert found["/dev/shm"]["source"] == "/p/shm"
    assert "ro" in found["/sys"]["options"]  # type: ignore[operator]
    assert "ro" in found["/sys/fs/cgroup"]["options"]  # type: ignore[operator]


def test_the_hosts_own() -> None:
    pod = msgspec.structs.replace(POD, ipc=NamespaceMode.NODE)
    found = plan(pod=pod, hosts="/etc/hosts", security=Security(privileged=True))
    assert found["/dev/shm"]["source"] == "/dev/shm"
    assert found["/etc/hosts"]["source"] == "/etc/hosts"
    assert "rw" in found["/sys/fs/cgroup"]["options"]  # type: ignore[operator]


def test_a_mount_replaces_the_default_one() -> None:
    found = plan(mount("/etc/hostname/", "/other"), mount("/vol"), mount("/sys"), hosts="")
    assert found["/etc/hostname"]["source"] == "/real/other"
    assert found["/vol"]["source"] == "/real/h"
    assert "/sys/fs/cgroup" not in found


def test_parents_come_first() -> None:
    order = list(plan(mount("/a/b/c"), mount("/a"), mount("/a/b")))
    assert [path for path in order if path.startswith("/a")] == ["/a", "/a/b", "/a/b/c"]
    assert order.index("/dev") < order.index("/dev/shm")


def test_options() -> None:
    found = plan(
        mount("/a", readonly=True, recursive_read_only=True),
        mount("/b", propagation=Propagation.BIDIRECTIONAL),
        mount("/c", propagation=Propagation.HOST_TO_CONTAINER, readonly=True),
    )
    assert found["/a"]["options"] == ["rbind", "rprivate", "ro", "rro"]
    assert found["/b"]["options"] == ["rbind", "rshared", "rw"]
    assert found["/c"]["options"] == ["rbind", "rslave", "ro"]


def test_the_roots_propagation() -> None:
    def of(*kinds: Propagation) -> str:
        mounts = tuple(mount(f"/{kind.value}", propagation=kind) for kind in kinds)
        return oci_mounts.root_propagation(msgspec.structs.replace(REQUEST, mounts=mounts))

    assert of(Propagation.PRIVATE) == ""
    assert of(Propagation.HOST_TO_CONTAINER) == "rslave"
    assert of(Propagation.HOST_TO_CONTAINER, Propagation.BIDIRECTIONAL) == "rshared"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (mount("/"), "container_path"),
        (mount(""), "container_path"),
        (mount("/proc"), "container_path"),
        (mount("/x/../proc/sys"), "container_path"),
        (mount("/a\nb"), "container_path"),
        (mount("/a", "rel"), "host_path"),
        (mount("/a", recursive_read_only=True), "recursive_read_only"),
        (
            mount("/a", readonly=True, recursive_read_only=True, propagation=Propagation.BIDIRECTIONAL),
            "recursive_read_only",
        ),
    ],
)
def test_what_is_wrong_is_named(wrong: Mount, said: str) -> None:
    with pytest.raises(InvalidInput, match=rf"mounts\[1\]\.{said}"):
        oci_mounts.check(msgspec.structs.replace(REQUEST, mounts=(mount("/ok"), wrong)))
