"""Devices as a container sees them: from the request, the configuration and CDI specifications."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import INVALID, Cri, Pod, refused
from tests.harness.daemon import Daemon, serving
from tests.integration.conftest import insecure

GPU = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.com/gpu",
    "devices": [
        {
            "name": "0",
            "containerEdits": {
                "env": ["GPU=zero"],
                "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/fuse", "permissions": "r"}],
            },
        },
        {"name": "1", "containerEdits": {"env": ["GPU=one"], "deviceNodes": [{"path": "/dev/full"}]}},
    ],
    "containerEdits": {"env": ["VENDOR=yes", "PATH=/bin:/gpu"], "additionalGids": [4242]},
}


@pytest.fixture(scope="module")
def daemon(system_users: None, registry) -> Iterator[Daemon]:
    """One with devices of its own, and folders for CDI."""
    mine = Daemon(insecure(registry.address))
    first, second = mine.folder / "cdi-1", mine.folder / "cdi-2"
    for folder in (first, second, mine.folder / "given"):
        folder.mkdir()
        folder.chmod(0o755)
    (mine.folder / "given" / "file").write_text("of the vendor\n")
    settings = {
        "additional_devices": ["/dev/full:/dev/always:rw"],
        "cdi_spec_dirs": [str(first), str(second)],
        "device_ownership_from_security_context": True,
    }
    (first / "gpu.json").write_text(json.dumps(GPU))
    hook = {"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", f"cat > {mine.folder}/hooked"]}
    mount = {"hostPath": str(mine.folder / "given"), "containerPath": "/given", "options": ["ro", "rbind"]}
    (first / "nic.yaml").write_text(f"""
cdiVersion: "0.3.0"
kind: vendor.com/nic
devices:
- name: eth
  containerEdits:
    mounts: [{json.dumps(mount)}]
    hooks: [{json.dumps(hook)}]
- name: both
  containerEdits: {{env: ["FROM=first"]}}
""")
    (second / "nic.yaml").write_text("""
cdiVersion: "0.8.0"
kind: vendor.com/nic
devices: [{name: both, containerEdits: {env: ["FROM=second"]}}]
""")
    for name in ("rival-1.json", "rival-2.json"):
        rival = {"cdiVersion": "0.5.0", "kind": "v.com/rival", "devices": [{"name": "a", "containerEdits": {}}]}
        (first / name).write_text(json.dumps(rival))
    loose = first / "loose.json"
    loose.write_text(json.dumps({"cdiVersion": "0.5.0", "kind": "v.com/loose", "devices": [{"name": "a"}]}))
    loose.chmod(0o666)
    (first / "broken.json").write_text("{")
    with serving(mine, runtime=settings):
        yield mine


def device(path: str, source: str, permissions: str = "rwm") -> pb.Device:
    return pb.Device(container_path=path, host_path=source, permissions=permissions)


def described(cri: Cri, container: str, path: str) -> tuple[str, int, int]:
    """Type, major and minor number of a node in a container."""
    kind, major, minor = cri.output(container, "stat", "-c", "%F|%t|%T", path).strip().split("|")
    return kind.split()[0], int(major, 16), int(minor, 16)


def test_a_device_of_the_request(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600", devices=[device("/dev/mine", "/dev/fuse", "r")])
    assert described(cri, container, "/dev/mine") == ("character", 10, 229)
    assert cri.exec(container, "sh", "-c", ": < /dev/mine").exit_code == 0
    assert cri.exec(container, "sh", "-c", ": > /dev/mine").exit_code != 0
    writable = pod.shell("sleep 600", devices=[device("/dev/mine", "/dev/fuse", "rw")])
    assert cri.exec(writable, "sh", "-c", ": > /dev/mine").exit_code == 0


def test_a_device_that_was_not_asked_for_cannot_be_made(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600")
    script = "mknod /tmp-mem c 1 1 && dd if=/tmp-mem of=/dev/null count=1"
    assert cri.exec(container, "sh", "-c", script).exit_code != 0


def test_a_folder_of_devices(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    folder = daemon.folder / "nodes"
    (folder / "below").mkdir(parents=True)
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(folder / "below" / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    (folder / "file").touch()
    container = pod.shell("sleep 600", devices=[device("/dev/all", str(folder), "rw")])
    assert described(cri, container, "/dev/all/null") == ("character", 1, 3)
    assert described(cri, container, "/dev/all/below/zero") == ("character", 1, 5)
    assert cri.exec(container, "stat", "/dev/all/file").exit_code != 0


def test_a_link_to_a_device(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    (daemon.folder / "link").symlink_to("/dev/full")
    container = pod.shell("sleep 600", devices=[device("/dev/linked", str(daemon.folder / "link"))])
    assert described(cri, container, "/dev/linked") == ("character", 1, 7)


def test_a_device_of_the_configuration(pod: Pod, cri: Cri) -> None:
    assert described(cri, pod.shell("sleep 600"), "/dev/always") == ("character", 1, 7)


def test_devices_belong_to_the_user(pod: Pod, cri: Cri) -> None:
    security = pb.LinuxContainerSecurityContext(
        run_as_user=pb.Int64Value(value=1000), run_as_group=pb.Int64Value(value=1001)
    )
    container = pod.shell("sleep 600", devices=[device("/dev/mine", "/dev/zero")], security=security)
    assert cri.output(container, "stat", "-c", "%u %g", "/dev/mine") == "1000 1001\n"


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("host_path", device("/dev/x", "/dev/../etc/shadow")),
        ("host_path", device("/dev/x", "/etc/passwd")),
        ("host_path", device("/dev/x", "/etc")),
        ("host_path", device("/dev/x", "zero")),
        ("permissions", device("/dev/x", "/dev/zero", "rwmx")),
        ("permissions", device("/dev/x", "/dev/zero", "")),
        ("container_path", device("/dev/../x", "/dev/zero")),
        ("container_path", device("x", "/dev/zero")),
    ],
)
def test_what_is_no_device_is_refused(pod: Pod, field: str, given: pb.Device) -> None:
    with refused(INVALID, f"devices[0].{field}"):
        pod.create("true", devices=[given])


def test_a_folder_of_ten_thousand_nodes_is_refused(pod: Pod, daemon: Daemon) -> None:
    folder = daemon.folder / "many"
    folder.mkdir()
    for number in range(10_000):
        os.mknod(folder / str(number), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with refused(INVALID, "devices[0].host_path", "more than"):
        pod.create("true", devices=[device("/dev/many", str(folder), "r")])


def cdi(*names: str) -> list[pb.CDIDevice]:
    return [pb.CDIDevice(name=name) for name in names]


def test_a_cdi_device(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600", CDI_devices=cdi("vendor.com/gpu=0"))
    assert described(cri, container, "/dev/gpu0") == ("character", 10, 229)
    assert cri.exec(container, "sh", "-c", ": < /dev/gpu0").exit_code == 0
    assert cri.exec(container, "sh", "-c", ": > /dev/gpu0").exit_code != 0
    seen = set(cri.output(container, "env").splitlines())
    assert {"GPU=zero", "VENDOR=yes", "PATH=/bin:/gpu"} <= seen
    assert "4242" in cri.output(container, "id", "-G").split()


def test_cdi_devices_by_annotation(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    annotations = {"cdi.k8s.io/plugin_one": "vendor.com/gpu=1,vendor.com/nic=eth", "cdi.k8s.io/b": "vendor.com/gpu=1"}
    container = pod.shell("sleep 600", annotations=annotations)
    assert described(cri, container, "/dev/full") == ("character", 1, 7)
    assert cri.output(container, "cat", "/given/file") == "of the vendor\n"
    assert cri.exec(container, "touch", "/given/x").exit_code != 0
    assert json.loads((daemon.folder / "hooked").read_text())["id"] == container


def test_a_later_folders_specification_counts(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600", CDI_devices=cdi("vendor.com/nic=both"))
    assert "FROM=second" in cri.output(container, "env").splitlines()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vendor.com/gpu=7", ("vendor.com/gpu=7", "no specification", "broken.json")),
        ("v.com/loose=a", ("v.com/loose=a", "written by others")),
        ("v.com/rival=a", ("several specifications", "rival-1.json", "rival-2.json")),
        ("no-name", ("no-name", "not a CDI device")),
        ("vendor.com/../x=a", ("not a CDI device",)),
    ],
)
def test_a_cdi_device_that_cannot_be_resolved_is_refused(
    pod: Pod, daemon: Daemon, name: str, words: tuple[str, ...]
) -> None:
    before = daemon.leaks()
    with refused(INVALID, "CDI_devices[0]", *words):
        pod.create("true", CDI_devices=cdi(name))
    with refused(INVALID, "cdi.k8s.io/x", *words):
        pod.create("true", annotations={"cdi.k8s.io/x": name})
    assert daemon.leaks() == before


def test_a_pods_annotation_brings_no_device(pods, daemon: Daemon, cri: Cri) -> None:
    from tests.harness.cri import pod_config

    pod = pods(pod_config(daemon.logs, annotations={"cdi.k8s.io/x": "vendor.com/gpu=0"}))
    container = pod.shell("sleep 600")
    assert cri.exec(container, "stat", "/dev/gpu0").exit_code != 0


def test_a_specification_that_comes_later_counts(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    with refused(INVALID, "late.com/d=x"):
        pod.create("true", CDI_devices=cdi("late.com/d=x"))
    late = {"cdiVersion": "0.5.0", "kind": "late.com/d", "devices": [{"name": "x", "containerEdits": {"env": ["L=1"]}}]}
    Path(daemon.folder / "cdi-2" / "late.json").write_text(json.dumps(late))
    container = pod.shell("sleep 600", CDI_devices=cdi("late.com/d=x"))
    assert "L=1" in cri.output(container, "env").splitlines()
