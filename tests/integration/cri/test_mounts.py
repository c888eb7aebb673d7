"""Mounts as a container sees them: read-only, recursive, propagated, with options; sources that are missing or hang."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from kernel.host import syscalls
from tests.harness import host
from tests.harness.cri import INVALID, Cri, Pod, container_config, pod_config, refused
from tests.harness.daemon import Daemon, serving
from tests.integration.conftest import insecure

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture(scope="module")
def daemon(system_users: None, registry) -> Iterator[Daemon]:
    """One that may not make a certain source."""
    mine = Daemon(insecure(registry.address))
    with serving(mine, runtime={"absent_mount_sources_to_reject": [str(mine.folder / "never-made")]}):
        yield mine


@pytest.fixture
def folder(daemon: Daemon) -> Path:
    """A folder of the host for this test."""
    return Path(tempfile.mkdtemp(prefix="volume-", dir=daemon.folder))


@contextmanager
def tmpfs(path: Path, propagation: str = "private") -> Iterator[Path]:
    """A file system of its own on a folder, shared or not, whatever the machine's root is."""
    path.mkdir(parents=True, exist_ok=True)
    host.run("mount", "-t", "tmpfs", "crisp-test", str(path))
    try:
        host.run("mount", f"--make-{propagation}", str(path))
        yield path
    finally:
        host.run("umount", "--recursive", "--lazy", str(path), check=False)


def sleeper(pod: Pod, *mounts, **fields) -> str:
    """A container that waits, with mounts."""
    return pod.shell("sleep 600", mounts=list(mounts), **fields)


def status_of(cri: Cri, container: str, script: str) -> int:
    """The exit code of a shell script in a container."""
    return int(cri.exec(container, "sh", "-c", script).exit_code)


def test_a_mount_is_writable_or_not(pod: Pod, cri: Cri, folder: Path) -> None:
    (folder / "there").write_text("from the host\n")
    container = sleeper(
        pod,
        pb.Mount(container_path="/rw", host_path=str(folder)),
        pb.Mount(container_path="/ro", host_path=str(folder), readonly=True),
        pb.Mount(container_path="/one", host_path=str(folder / "there"), readonly=True),
    )
    assert cri.output(container, "cat", "/ro/there", "/one") == "from the host\n" * 2
    assert status_of(cri, container, "echo new > /rw/new") == 0
    assert (folder / "new").read_text() == "new\n"
    assert status_of(cri, container, "touch /ro/no") != 0
    assert status_of(cri, container, "echo x > /one") != 0


def test_read_only_reaches_below_where_that_is_asked(pod: Pod, cri: Cri, folder: Path) -> None:
    with tmpfs(folder / "below"):
        container = sleeper(
            pod,
            pb.Mount(container_path="/plain", host_path=str(folder), readonly=True),
            pb.Mount(container_path="/deep", host_path=str(folder), readonly=True, recursive_read_only=True),
        )
        assert status_of(cri, container, "touch /plain/below/yes") == 0
        assert status_of(cri, container, "touch /deep/no") != 0
        assert status_of(cri, container, "touch /deep/below/no") != 0
        cri.remove(container)


def test_recursive_read_only_is_promised_by_those_that_can(cri: Cri, pods, daemon: Daemon, folder: Path) -> None:
    handlers = {one.name: one.features.recursive_read_only_mounts for one in cri.status().runtime_handlers}
    assert handlers["runc"] == handlers[""] == ("rro" in host.run("runc", "features"))
    pod = pods(pod_config(daemon.logs), "crun")
    mount = pb.Mount(container_path="/x", host_path=str(folder), readonly=True, recursive_read_only=True)
    if handlers["crun"]:
        pod.create("true", mounts=[mount])
        return
    with refused(PRECONDITION, "mounts[0].recursive_read_only", "crun"):
        pod.create("true", mounts=[mount])


@pytest.mark.parametrize(
    "fields", [{"readonly": False}, {"readonly": True, "propagation": pb.PROPAGATION_HOST_TO_CONTAINER}]
)
def test_recursive_read_only_needs_the_rest(pod: Pod, folder: Path, fields: dict[str, object]) -> None:
    mount = pb.Mount(container_path="/x", host_path=str(folder), recursive_read_only=True, **fields)
    with refused(INVALID, "mounts[0].recursive_read_only"):
        pod.create("true", mounts=[mount])


def test_mounts_of_the_host_come_where_they_are_wanted(pod: Pod, cri: Cri, folder: Path) -> None:
    with tmpfs(folder, "shared"):
        container = sleeper(
            pod,
            pb.Mount(container_path="/to", host_path=str(folder), propagation=pb.PROPAGATION_HOST_TO_CONTAINER),
            pb.Mount(container_path="/none", host_path=str(folder)),
        )
        with tmpfs(folder / "late"):
            (folder / "late" / "seen").touch()
            assert cri.output(container, "ls", "/to/late") == "seen\n"
            assert cri.output(container, "ls", "/none/late") == ""
        cri.remove(container)


def test_mounts_of_a_container_reach_the_host_where_that_is_wanted(
    pods, daemon: Daemon, cri: Cri, folder: Path
) -> None:
    config = pod_config(daemon.logs)
    config.linux.security_context.privileged = True
    pod = pods(config)
    with tmpfs(folder, "shared"):
        (folder / "in").mkdir()
        container = sleeper(
            pod,
            pb.Mount(container_path="/both", host_path=str(folder), propagation=pb.PROPAGATION_BIDIRECTIONAL),
            security=pb.LinuxContainerSecurityContext(privileged=True),
        )
        assert status_of(cri, container, "mount -t tmpfs inner /both/in && touch /both/in/seen") == 0
        assert (folder / "in" / "seen").exists()
        cri.remove(container)


def test_propagation_needs_a_mount_that_has_it(pod: Pod, folder: Path) -> None:
    with tmpfs(folder):
        for kind in (pb.PROPAGATION_HOST_TO_CONTAINER, pb.PROPAGATION_BIDIRECTIONAL):
            with refused(PRECONDITION, "mounts[0].propagation", "not a shared mount"):
                pod.create("true", mounts=[pb.Mount(container_path="/x", host_path=str(folder), propagation=kind)])


def test_links_in_a_source_are_followed(pod: Pod, cri: Cri, folder: Path) -> None:
    (folder / "real" / "deep").mkdir(parents=True)
    (folder / "real" / "deep" / "file").write_text("found\n")
    (folder / "first").symlink_to("real")
    (folder / "second").symlink_to(folder / "first" / "deep")
    container = sleeper(pod, pb.Mount(container_path="/x", host_path=str(folder / "second")))
    assert cri.output(container, "cat", "/x/file") == "found\n"
    assert cri.container(container).mounts[0].host_path == str(folder / "second")


def test_a_missing_source_becomes_a_folder(pod: Pod, cri: Cri, folder: Path) -> None:
    container = sleeper(pod, pb.Mount(container_path="/x", host_path=str(folder / "a" / "b")))
    assert status_of(cri, container, "touch /x/here") == 0
    assert (folder / "a" / "b" / "here").exists()


def test_a_source_is_not_made_where_something_else_is_wrong(pod: Pod, folder: Path) -> None:
    with refused(INVALID, "devices"):
        pod.create(
            "true",
            mounts=[pb.Mount(container_path="/x", host_path=str(folder / "a"))],
            devices=[pb.Device(container_path="/dev/x", host_path="/etc/passwd", permissions="r")],
        )
    assert not (folder / "a").exists()


def test_a_source_that_may_not_be_made_is_refused(pod: Pod, daemon: Daemon) -> None:
    source = daemon.folder / "never-made"
    with refused(INVALID, "mounts[0].host_path", "never-made"):
        pod.create("true", mounts=[pb.Mount(container_path="/x", host_path=str(source))])
    assert not source.exists()


@pytest.mark.parametrize("source", ["/dev/null/x", "/proc/x", "relative", "/tmp/../etc", ""])
def test_a_source_that_cannot_be_is_refused(pod: Pod, source: str) -> None:
    with refused(INVALID, "mounts[0].host_path"):
        pod.create("true", mounts=[pb.Mount(container_path="/x", host_path=source)])


@pytest.mark.parametrize("path", ["/", "//", "/.", "relative", "/dev/../etc", "/proc", "/proc/sys/kernel", "", "/a\nb"])
def test_a_place_that_cannot_be_is_refused(pod: Pod, folder: Path, path: str) -> None:
    with refused(INVALID, "mounts[0].container_path"):
        pod.create("true", mounts=[pb.Mount(container_path=path, host_path=str(folder))])


def test_too_many_mounts_are_refused(pod: Pod) -> None:
    mounts = [pb.Mount(container_path=f"/m/{number}", host_path="/tmp") for number in range(10_000)]
    with refused(INVALID, "mounts"):
        pod.create("true", mounts=mounts)


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_mount_options(pods, daemon: Daemon, cri: Cri, folder: Path, handler: str) -> None:
    assert cri.status().features.mount_options
    pod = pods(pod_config(daemon.logs), handler)
    (folder / "run").write_text("#!/bin/sh\nexit 0\n")
    (folder / "run").chmod(0o755)
    container = sleeper(
        pod,
        pb.Mount(container_path="/no", host_path=str(folder), mount_options=["noexec", "nodev", "nosuid"]),
        pb.Mount(container_path="/yes", host_path=str(folder)),
    )
    assert status_of(cri, container, "/yes/run") == 0
    assert status_of(cri, container, "/no/run") == 126
    (line,) = [line for line in cri.output(container, "cat", "/proc/mounts").splitlines() if " /no " in line]
    assert {"rw", "noexec", "nodev", "nosuid"} <= set(line.split()[3].split(","))
    assert list(cri.container(container).mounts[0].mount_options) == ["noexec", "nodev", "nosuid"]


@pytest.mark.parametrize("option", ["rw", "rshared", "size=1", "remount", "bind", "noexec,suid", ""])
def test_other_mount_options_are_refused(pod: Pod, folder: Path, option: str) -> None:
    with refused(INVALID, "mounts[0].mount_options[0]"):
        pod.create("true", mounts=[pb.Mount(container_path="/x", host_path=str(folder), mount_options=[option])])


def test_a_file_system_that_hangs_holds_nothing_up(pod: Pod, cri: Cri, folder: Path) -> None:
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)  # nobody will read from it
    try:
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("dead", folder, "fuse", flags, f"fd={fd},rootmode=40000,user_id=0,group_id=0")
        link = folder.with_name("link-to-dead")
        link.symlink_to(folder)
        begun = time.monotonic()
        with refused(PRECONDITION, "mounts[1].host_path", "does not answer"):
            pod.create(
                "true",
                mounts=[
                    pb.Mount(container_path="/x", host_path="/tmp"),
                    pb.Mount(container_path="/y", host_path=str(link / "file")),
                ],
            )
        assert time.monotonic() - begun < 15
        assert cri.container(pod.shell("sleep 600")).state == pb.CONTAINER_RUNNING
    finally:
        os.close(fd)
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def test_an_images_volumes_hold_what_the_image_put_there(daemon: Daemon, pod: Pod, cri: Cri, registry) -> None:
    from deploy.demo_image import Layer, busybox_layer, image

    layer = Layer()
    layer.folder("data", mode=0o750, uid=1000, gid=1001)
    layer.file("data/seed", b"of the image\n")
    built = image([busybox_layer().tar(), layer.tar()], {"Env": ["PATH=/bin"], "Volumes": {"/data": {}, "/new": {}}})
    registry.push(built, "volumes", "v1")
    reference = f"{registry.address}/volumes:v1"
    cri.pull(reference)
    security = pb.LinuxContainerSecurityContext(readonly_rootfs=True)
    config = container_config(reference, "sleep", "600", security=security)
    container = cri.create(pod.id, config, pod.config)
    cri.start(container)
    assert cri.output(container, "cat", "/data/seed") == "of the image\n"
    assert cri.output(container, "stat", "-c", "%a %u %g", "/data") == "750 1000 1001\n"
    assert status_of(cri, container, "touch /data/x /new/x") == 0
    assert status_of(cri, container, "touch /elsewhere") != 0
