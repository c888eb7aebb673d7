"""CheckpointContainer and restoring, on a host with or without a CRIU that works.

Without one everything up to CRIU is tested: what is refused, with which words, and that nothing is left. The tests that
are marked so need one that works: kernel and CRIU must fit together.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from deploy.demo_image import MANIFEST, Image, Layer, image
from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import Cri, Pod, container_config, outcome, refused
from tests.harness.daemon import Daemon, serving
from tests.harness.registry import Registry
from tests.integration.conftest import insecure

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CODE = grpc.StatusCode
COUNT = "i=0; while :; do i=$((i+1)); echo $i > /count; echo said $i; sleep 0.1; done"


def criu_s_reason() -> str:
    """Why CRIU does not work here; empty where it does."""
    criu = shutil.which("criu", path=PATH)
    if criu is None:
        return "criu is not installed"
    done = subprocess.run([criu, "check"], capture_output=True, text=True, check=False)
    return next((line for line in done.stderr.splitlines() if "Error" in line), "it fails") if done.returncode else ""


WHY_NOT = criu_s_reason()
needs_criu = pytest.mark.skipif(bool(WHY_NOT), reason=f"CRIU does not work here: {WHY_NOT}")


@pytest.fixture(scope="module")
def daemon(system_users: None, registry: Registry) -> Iterator[Daemon]:
    """A daemon that restores from images of one repository; at the end nothing may be left on the host."""
    mine = Daemon(insecure(registry.address))
    with serving(mine, runtime={"checkpoint_images": [f"{registry.address}/checkpoints"]}):
        yield mine


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for archives, with no link on the way to it."""
    folder = Path(f"/tmp/ckpt-{os.getpid()}")
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


def checkpoint(cri: Cri, container: str, location: Path | str, **fields) -> None:
    cri.call("CheckpointContainer", container_id=container, location=str(location), limit=120, **fields)


def count(cri: Cri, container: str) -> int:
    return int(cri.output(container, "cat", "/count") or 0)


def archive(path: Path, base_image: str, edit: Callable[[tarfile.TarFile], None] = lambda _: None, **spec) -> Path:
    """An archive as an engine would make it, of nothing that CRIU could restore."""
    parts = {
        "config.dump": json.dumps({"id": "x", "rootfsImageRef": base_image.removeprefix("sha256:")}).encode(),
        "spec.dump": json.dumps(spec).encode(),
        "checkpoint/inventory.img": b"inventory",
    }
    with tarfile.open(path, "w") as tar:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        edit(tar)
    path.chmod(0o600)
    return path


@pytest.mark.skipif(not WHY_NOT, reason="CRIU works here")
def test_without_criu_both_are_refused_with_its_reason(pod: Pod, cri: Cri, place: Path, busybox_ref: str) -> None:
    container = pod.shell("sleep 600")
    word = "criu, which is not installed" if "not installed" in WHY_NOT else WHY_NOT
    with refused(CODE.FAILED_PRECONDITION, word):
        checkpoint(cri, container, place / "x.tar")
    assert list(place.iterdir()) == []
    assert cri.exec(container, "true").exit_code == 0
    made = archive(place / "made.tar", cri.image(busybox_ref).id)
    with refused(CODE.FAILED_PRECONDITION, word):
        cri.create(pod.id, container_config(str(made)), pod.config)
    assert len(cri.list_containers(pod_sandbox_id=pod.id)) == 1


def test_82_where_archives_may_go(daemon: Daemon, pod: Pod, cri: Cri, place: Path) -> None:
    container = pod.shell("sleep 600")
    (place / "link").symlink_to("/etc/shadow")
    (place / "way").symlink_to("/etc")
    (place / "folder").mkdir()
    for bad in ("/etc/x", "/usr/x", f"{daemon.root}/x", f"{place}/link", f"{place}/way/x", f"{place}/folder"):
        with refused(CODE.INVALID_ARGUMENT, "location"):
            checkpoint(cri, container, bad)
    with refused(CODE.FAILED_PRECONDITION, "location"):
        checkpoint(cri, container, place / "missing" / "x")
    with refused(CODE.INVALID_ARGUMENT, "timeout"):
        checkpoint(cri, container, place / "x", timeout=-1)
    with refused(CODE.NOT_FOUND):
        checkpoint(cri, "f" * 64, place / "x")
    cri.stop(container, 0)
    with refused(CODE.FAILED_PRECONDITION, "not running"):
        checkpoint(cri, container, place / "x")
    assert not Path("/etc/x").exists()
    for name in ("link", "way"):
        (place / name).unlink()
    (place / "folder").rmdir()


def link(name: str, target: str) -> Callable[[tarfile.TarFile], None]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return lambda tar: tar.addfile(info)


def test_82_crafted_archives_are_refused(daemon: Daemon, pod: Pod, cri: Cri, place: Path, busybox_ref: str) -> None:
    image_id = cri.image(busybox_ref).id
    tags = sorted(tag for one in cri.list_images() for tag in one.repo_tags)

    def create(path: Path | str, **fields) -> None:
        cri.create(pod.id, container_config(str(path), **fields), pod.config)

    for name, target in (("container.log", "/etc/shadow"), ("checkpoint/core-1.img", "/etc/passwd"), ("../x", "y")):
        made = archive(place / "crafted.tar", image_id, link(name, target))
        with refused(CODE.INVALID_ARGUMENT, str(made)):
            create(made)
    others = {
        "is not here": archive(place / "unknown.tar", "e" * 64),
        "terminal": archive(place / "terminal.tar", image_id, process={"terminal": True}),
        "cannot be read": archive(place / "mounts.tar", image_id, mounts={"a": 1}),
    }
    for word, made in others.items():
        with refused(CODE.NOT_FOUND if "here" in word else CODE.INVALID_ARGUMENT, word):
            create(made)
    made = archive(place / "crafted.tar", image_id)
    made.chmod(0o666)
    with refused(CODE.PERMISSION_DENIED, "others than root"):
        create(made)
    (place / "link").symlink_to(made)
    for bad in (place / "link", "/proc/self/mem", "/dev/zero", f"{place}/../{place.name}/crafted.tar"):
        with refused(CODE.INVALID_ARGUMENT, str(bad)):
            create(bad)
    with refused(CODE.NOT_FOUND, "is not here"):
        create(place / "none.tar")
    assert cri.list_containers(pod_sandbox_id=pod.id) == []
    assert sorted(tag for one in cri.list_images() for tag in one.repo_tags) == tags
    assert [path.name for path in (daemon.root / "storage" / "containers").iterdir()] == []


def checkpoint_image(path: Path, name: str) -> Image:
    """An archive as an image, as buildah makes it: its files in a layer, its container's name in an annotation."""
    layer = Layer()
    with tarfile.open(path) as tar:
        for member in tar.getmembers():
            if member.isdir():
                layer.folder(member.name)
            else:
                file = tar.extractfile(member)
                assert file is not None
                layer.file(member.name, file.read())
    plain = image([layer.tar()], {})
    manifest = json.loads(plain.manifest)
    manifest["annotations"] = {"io.kubernetes.cri-o.annotations.checkpoint.name": name}
    return Image(manifest=json.dumps(manifest).encode(), config=plain.config, layers=plain.layers, media_type=MANIFEST)


def test_23_an_image_that_is_a_checkpoint_runs_only_where_it_is_listed(
    pod: Pod, cri: Cri, place: Path, busybox_ref: str, registry: Registry
) -> None:
    made = archive(place / "image.tar", cri.image(busybox_ref).id)
    registry.push(checkpoint_image(made, "main"), "unlisted", "1")
    reference = f"{registry.address}/unlisted:1"
    cri.pull(reference)
    with refused(CODE.PERMISSION_DENIED, "checkpoint of container 'main'", "runtime.checkpoint_images"):
        cri.create(pod.id, container_config(reference), pod.config)
    cri.remove_image(reference)


@needs_criu
def test_a_container_goes_on_and_comes_back(daemon: Daemon, pods, cri: Cri, place: Path, busybox_ref: str) -> None:
    before = pods()
    container = before.shell(
        f"echo kept > /root-file; rm /etc/group; mkdir /new; {COUNT}", annotations={"io.kubernetes.container.hash": "a"}
    )
    host.until("it counts", lambda: count(cri, container) > 3)
    path = place / "archive.tar"
    path.write_text("older")
    checkpoint(cri, container, path)
    reached = count(cri, container)
    host.until("it counts on", lambda: count(cri, container) > reached + 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as tar:
        names = tar.getnames()
        config = json.load(tar.extractfile("config.dump"))
        deleted = json.load(tar.extractfile("deleted.files"))
        spec = json.load(tar.extractfile("spec.dump"))
        with tarfile.open(fileobj=tar.extractfile("rootfs-diff.tar")) as diff:
            frozen = int(diff.extractfile("count").read() or 0)
    assert {"checkpoint", "checkpoint/inventory.img", "config.dump", "spec.dump", "rootfs-diff.tar", "deleted.files",
            "bind.mounts", "dump.log", "stats-dump"} <= set(names)  # fmt: skip
    assert "/etc/group" in deleted
    assert (config["id"], config["runtime"]) == (container, "runc")
    assert json.loads(spec["annotations"]["io.kubernetes.cri-o.Annotations"]) == {"io.kubernetes.container.hash": "a"}
    assert not (daemon.root / "storage" / "containers" / container / "checkpoint").exists()
    before.remove()

    after = pods()
    restored = cri.create(after.id, container_config(str(path)), after.config)
    status = cri.container(restored)
    assert (status.state, status.image.image) == (pb.CONTAINER_CREATED, busybox_ref)
    cri.start(restored)
    assert cri.container(restored).state == pb.CONTAINER_RUNNING
    assert cri.pid(restored) > 0
    host.until("it counts from where it was", lambda: count(cri, restored) > reached)
    assert cri.output(restored, "cat", "/root-file") == "kept\n"
    assert cri.exec(restored, "ls", "/etc/group").exit_code != 0
    assert cri.exec(restored, "ls", "/new").exit_code == 0
    host.until("its log is written", lambda: len(after.log(restored)) > 3)
    assert all(int(text.split()[1]) >= frozen for _, text in after.log(restored))
    assert cri.output(restored, "hostname").strip() == after.config.hostname
    daemon.kill("runtime")
    host.until("commands run again", lambda: not isinstance(outcome(lambda: count(cri, restored)), grpc.RpcError))
    assert cri.exec(restored, "true").exit_code == 0
    cri.stop(restored, 1)
    status = cri.wait_exit(restored)
    assert (status.exit_code, status.reason) == (137, "Error")


@needs_criu
def test_a_restored_container_is_checkpointed_again_and_exits_by_itself(pods, cri: Cri, place: Path) -> None:
    first = pods()
    container = first.shell("trap 'exit 3' TERM; " + COUNT)
    host.until("it counts", lambda: count(cri, container) > 1)
    for number in (1, 2):
        path = place / f"again-{number}.tar"
        checkpoint(cri, container, path)
        reached = count(cri, container)
        pod = pods()
        container = cri.create(pod.id, container_config(str(path)), pod.config)
        cri.start(container)
        host.until("it counts on", lambda now=container, then=reached: count(cri, now) > then)
    cri.stop(container, 20)
    assert cri.wait_exit(container).exit_code == 3


@needs_criu
def test_from_an_image(pods, cri: Cri, place: Path, registry: Registry) -> None:
    container = pods().shell(COUNT)
    host.until("it counts", lambda: count(cri, container) > 1)
    path = place / "image.tar"
    checkpoint(cri, container, path)
    reached = count(cri, container)
    registry.push(checkpoint_image(path, "main"), "checkpoints/app", "1")
    reference = f"{registry.address}/checkpoints/app:1"
    cri.pull(reference)
    pod = pods()
    restored = cri.create(pod.id, container_config(reference), pod.config)
    cri.start(restored)
    host.until("it counts on", lambda: count(cri, restored) > reached)


@needs_criu
def test_a_container_that_is_not_started_is_stopped_and_removed(pods, cri: Cri, place: Path) -> None:
    container = pods().shell(COUNT)
    path = place / "unstarted.tar"
    checkpoint(cri, container, path)
    pod = pods()
    for end in ("stop", "remove"):
        restored = cri.create(pod.id, container_config(str(path)), pod.config)
        if end == "stop":
            cri.stop(restored, 5)
            assert cri.wait_exit(restored).exit_code == 137
            with refused(CODE.FAILED_PRECONDITION, "exited"):
                cri.start(restored)
        cri.remove(restored)
    left = cri.create(pod.id, container_config(str(path)), pod.config)
    assert cri.container(left).state == pb.CONTAINER_CREATED  # and goes with its pod


@needs_criu
def test_mounts_must_be_given_again(pods, cri: Cri, place: Path) -> None:
    volume = place / "volume"
    volume.mkdir()
    mounts = [pb.Mount(container_path="/data", host_path=str(volume))]
    container = pods().shell(f"cd /data; {COUNT}", mounts=mounts)
    path = place / "mounts.tar"
    checkpoint(cri, container, path)
    reached = count(cri, container)
    pod = pods()
    with refused(CODE.INVALID_ARGUMENT, "mounts", "/data"):
        cri.create(pod.id, container_config(str(path)), pod.config)
    restored = cri.create(pod.id, container_config(str(path), mounts=mounts), pod.config)
    cri.start(restored)
    host.until("it counts on", lambda: count(cri, restored) > reached)
    assert os.readlink(f"/proc/{cri.pid(restored)}/cwd") == "/data"


@needs_criu
@pytest.mark.parametrize("worker", ["front", "runtime", "storage"])
def test_a_worker_that_dies_in_the_middle_leaves_it_running(
    daemon: Daemon, pod: Pod, cri: Cri, place: Path, worker: str
) -> None:
    container = pod.shell(COUNT)
    host.until("it counts", lambda: count(cri, container) > 1)
    path = place / f"{worker}.tar"
    request = pb.CheckpointContainerRequest(container_id=container, location=str(path))
    under_way = cri.runtime.CheckpointContainer.future(request, timeout=120 * host.SLOWNESS)
    folder = daemon.root / "storage" / "containers" / container / "checkpoint"
    host.until("it is being dumped", folder.exists)
    daemon.kill(worker)
    under_way.exception()  # an error where the front is gone
    host.until("it serves", daemon.ready)
    reached = count(cri, container)
    host.until("it counts on", lambda: count(cri, container) > reached + 2, limit=60)
    checkpoint(cri, container, path)
    assert [one.name for one in place.iterdir() if one.name.startswith(".")] == []
    host.until("nothing is left of it", lambda: not folder.exists())
