"""What containers changed, written out and made in another container's root; archives as nobody should make them."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import zstandard

from kernel.bus.worker import Call
from kernel.contracts.storage import Checkpoint, ContainerRequest, RestoreRequest
from kernel.errors import CrispError, InvalidInput, NotFound, PermissionDenied, ResourceExhausted
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, DiffId
from tests.integration.storage.conftest import CALL, Store, Tar

CAPABILITY = b"\x01\x00\x00\x02" + bytes(16)


def a_call() -> Call:
    return cast("Call", SimpleNamespace(deadline=Deadline.after(60)))


async def base(store: Store) -> DiffId:
    tar = Tar().folder("./", mode=0o755).folder("etc").add("etc/keep", b"keep").add("etc/gone", b"gone")
    tar.folder("tree", mode=0o700).folder("tree/deep").add("tree/deep/leaf", b"leaf").add("tree/top", b"top")
    tar.folder("wiped").add("wiped/one").add("wiped/two").folder("wiped/kept").add("wiped/kept/old")
    return await store.unpack(tar.folder("turned").add("turned/in").link("way", "etc").add("file", b"file"))


def change(root: Path) -> None:
    """All that a container can do to its root."""
    (root / "etc/gone").unlink()
    (root / "etc/new").write_bytes(b"new" * 1000)
    os.chown(root / "etc/new", 1000, 70000)
    (root / "etc/new").chmod(0o4755)
    os.setxattr(root / "etc/new", "user.note", b"kept")
    os.setxattr(root / "etc/new", "security.capability", CAPABILITY)
    os.link(root / "etc/new", root / "etc/twin")
    (root / "link").symlink_to("/etc/" + "x" * 200)
    os.mkfifo(root / "pipe", 0o622)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "tree/deep/leaf").write_bytes(b"changed")
    for name in ("tree/top",):
        (root / name).unlink()
    for name in ("wiped/one", "wiped/two", "wiped/kept/old"):
        (root / name).unlink()
    (root / "wiped/kept").rmdir()
    (root / "wiped").rmdir()
    (root / "wiped").mkdir(mode=0o711)
    (root / "wiped/kept").mkdir()
    (root / "wiped/kept/fresh").write_bytes(b"fresh")
    (root / "turned/in").unlink()
    (root / "turned").rmdir()
    (root / "turned").write_bytes(b"a file now")
    (root / "file").unlink()
    (root / "file").mkdir()
    (root / "file/in").write_bytes(b"a folder now")
    os.utime(root / "etc/keep", ns=(1_600_000_000_500_000_000, 1_600_000_000_500_000_000))


def listing(root: Path) -> dict[str, object]:
    """All that can be told of a tree."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            status = path.lstat()
            said: list[object] = [oct(status.st_mode), status.st_uid, status.st_gid, status.st_rdev, status.st_mtime_ns]
            if stat.S_ISREG(status.st_mode):
                said += [path.read_bytes(), sorted(os.listxattr(path)), status.st_nlink]
            elif stat.S_ISLNK(status.st_mode):
                said += [os.readlink(path)]
            found[str(path.relative_to(root))] = said
    return found


async def exported(store: Store, container: ContainerId) -> dict[str, bytes]:
    await store.service.write_diff(ContainerRequest(container_id=container), CALL)
    return {path.name: path.read_bytes() for path in store.paths.checkpoint(container).iterdir()}


def archive(
    folder: Path, parts: dict[str, bytes], edit: Callable[[tarfile.TarFile], None] = lambda _: None, pack: str = ""
) -> Path:
    """An archive as the engines make them."""
    whole = {
        "config.dump": b'{"id": "x"}', "spec.dump": b"{}", "checkpoint/inventory.img": b"inventory",
        "checkpoint/pages-1.img": os.urandom(100_000), "bind.mounts": b"[]", "dump.log": b"said", **parts,
    }  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        top = tarfile.TarInfo("checkpoint")
        top.type, top.mode = tarfile.DIRTYPE, 0o700
        tar.addfile(top)
        for name, data in whole.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        edit(tar)
    data = buffer.getvalue()
    data = gzip.compress(data) if pack == "gzip" else zstandard.compress(data) if pack == "zstd" else data
    path = folder / "archive.tar"
    path.write_bytes(data)
    path.chmod(0o600)
    return path


async def restored(store: Store, container: ContainerId, path: Path) -> None:
    request = RestoreRequest(container_id=container, checkpoint=Checkpoint(archive=str(path)))
    await store.service.restore(request, CALL)


@pytest.mark.parametrize("pack", ["", "gzip", "zstd"])
async def test_a_root_comes_back_as_it_was(store: Store, tmp_path: Path, pack: str) -> None:
    layer = await base(store)
    container, root = await store.mount(layer)
    change(root)
    parts = await exported(store, container)
    assert sorted(parts) == ["deleted.files", "rootfs-diff.tar"]
    deleted = json.loads(parts["deleted.files"])
    assert {"/etc/gone", "/tree/top", "/wiped/one", "/wiped/two", "/wiped/kept/old"} <= set(deleted)
    names = tarfile.open(fileobj=io.BytesIO(parts["rootfs-diff.tar"])).getnames()  # noqa: SIM115
    assert "etc/new" in names
    assert not {"etc/keep", "etc/gone"} & set(names) - {"etc/keep"}
    other, fresh = await store.mount(layer)
    await restored(store, other, archive(tmp_path, parts, pack=pack))
    assert listing(fresh) == listing(root)
    folder = store.paths.checkpoint(other)
    assert sorted(os.listdir(folder / "checkpoint")) == ["inventory.img", "pages-1.img"]
    assert sorted(os.listdir(folder)) == ["checkpoint", "config.dump", "deleted.files", "rootfs-diff.tar", "spec.dump"]
    await restored(store, other, archive(tmp_path, parts))  # once more is once
    assert listing(fresh) == listing(root)
    await store.service.unmount(ContainerRequest(container_id=other), CALL)
    assert not folder.exists()


async def test_a_container_that_changed_nothing(store: Store, tmp_path: Path) -> None:
    layer = await base(store)
    container, root = await store.mount(layer)
    parts = await exported(store, container)
    assert json.loads(parts["deleted.files"]) == []
    other, fresh = await store.mount(layer)
    await restored(store, other, archive(tmp_path, {}))  # an archive without either part
    assert listing(fresh) == listing(root)


async def test_descriptions_are_read_without_unpacking(store: Store, tmp_path: Path) -> None:
    path = archive(tmp_path, {"config.dump": b'{"a": 1}', "spec.dump": b'{"b": 2}'}, pack="zstd")
    said = await store.service.describe(Checkpoint(archive=str(path)), a_call())
    assert (said.config, said.spec) == (b'{"a": 1}', b'{"b": 2}')


async def test_a_checkpoint_that_is_an_image(store: Store) -> None:
    layer = await base(store)
    container, root = await store.mount(layer)
    change(root)
    parts = await exported(store, container)
    tar = Tar().folder("checkpoint").add("checkpoint/inventory.img", b"inventory").add("config.dump", b"{}")
    image = await store.unpack(tar.add("spec.dump", b'{"old": 1}').add("rootfs-diff.tar", parts["rootfs-diff.tar"]))
    above = await store.unpack(Tar().add("spec.dump", b'{"new": 1}').add("deleted.files", parts["deleted.files"]))
    said = await store.service.describe(Checkpoint(layers=(image, above)), a_call())
    assert said.spec == b'{"new": 1}'
    other, fresh = await store.mount(layer)
    request = RestoreRequest(container_id=other, checkpoint=Checkpoint(layers=(image, above)))
    await store.service.restore(request, CALL)
    assert listing(fresh) == listing(root)
    assert (store.paths.checkpoint(other) / "checkpoint/inventory.img").read_bytes() == b"inventory"


@pytest.mark.parametrize("part", ["config.dump", "checkpoint/inventory.img", "rootfs-diff.tar", "deleted.files"])
async def test_an_image_with_a_link_for_a_part_is_refused(store: Store, part: str) -> None:
    layer = await base(store)
    other, fresh = await store.mount(layer)
    before = listing(fresh)
    tar = Tar().folder("checkpoint")
    for name in ("config.dump", "spec.dump", "checkpoint/inventory.img", "rootfs-diff.tar", "deleted.files"):
        tar = tar.link(name, "/etc/passwd") if name == part else tar.add(name, b"")
    image = await store.unpack(tar)
    checkpoint = Checkpoint(layers=(image,))
    request = RestoreRequest(container_id=other, checkpoint=checkpoint)
    asked = store.service.describe(checkpoint, a_call())
    outcome = asked if part == "config.dump" else store.service.restore(request, CALL)
    with pytest.raises(InvalidInput, match="not a plain file"):
        await outcome
    asked.close()
    assert listing(fresh) == before


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Callable[[tarfile.TarFile], None]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return lambda tar: tar.addfile(info)


def file(name: str, data: bytes = b"") -> Callable[[tarfile.TarFile], None]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return lambda tar: tar.addfile(info, io.BytesIO(data))


def kind(name: str, flag: bytes) -> Callable[[tarfile.TarFile], None]:
    info = tarfile.TarInfo(name)
    info.type = flag
    return lambda tar: tar.addfile(info)


HOSTILE = [
    (link("container.log", "/etc/shadow"), "symbolic link"),
    (link("io.kubernetes.cri-o.LogPath", "/etc/shadow"), "symbolic link"),
    (link("checkpoint/core-1.img", "/etc/passwd"), "symbolic link"),
    (link("checkpoint/core-1.img", "config.dump", tarfile.LNKTYPE), "hard link"),
    (link("artifacts", "/etc"), "symbolic link"),
    (file("../escaped"), "would leave"),
    (file("checkpoint/../../escaped"), "would leave"),
    (file("checkpoint/.hidden"), "a name that no file of CRIU's has"),
    (file("checkpoint/a b"), "a name that no file of CRIU's has"),
    (kind("checkpoint/folder", tarfile.DIRTYPE), "folder among the files"),
    (kind("checkpoint/null", tarfile.CHRTYPE), "character device"),
    (kind("pipe", tarfile.FIFOTYPE), "fifo"),
    (file("config.dump", b"{}"), "comes twice"),
    (file("./checkpoint/inventory.img"), "comes twice"),
    (file("deleted.files", bytes((8 << 20) + 1)), "more than"),
]


@pytest.mark.parametrize(("edit", "why"), HOSTILE, ids=[why for _, why in HOSTILE])
async def test_an_archive_that_no_engine_makes_is_refused(
    store: Store, tmp_path: Path, edit: Callable[[tarfile.TarFile], None], why: str
) -> None:
    container, root = await store.mount(await base(store))
    before = listing(root)
    path = archive(tmp_path, {}, edit)
    with pytest.raises(InvalidInput, match=why):
        await store.service.describe(Checkpoint(archive=str(path)), a_call())
    with pytest.raises(InvalidInput, match=why):
        await restored(store, container, path)
    assert listing(root) == before
    assert not (tmp_path / "escaped").exists()


async def test_changes_that_lead_out_of_the_root_are_refused_or_stay_in_it(store: Store, tmp_path: Path) -> None:
    container, _ = await store.mount(await base(store))
    with pytest.raises(InvalidInput, match="would leave"):
        await restored(store, container, archive(tmp_path, {"deleted.files": b'["/../../etc"]'}))
    with pytest.raises(InvalidInput, match="the root itself"):
        await restored(store, container, archive(tmp_path, {"deleted.files": b'["/"]'}))
    with pytest.raises(InvalidInput, match="cannot be parsed"):
        await restored(store, container, archive(tmp_path, {"deleted.files": b'{"a": 1}'}))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    diff = Tar().link("way", str(outside)).add("way/in", b"x").bytes()
    with pytest.raises(InvalidInput, match="not a directory"):  # the way leads nowhere inside the root
        await restored(store, container, archive(tmp_path, {"rootfs-diff.tar": diff}))
    await restored(store, container, archive(tmp_path, {"rootfs-diff.tar": Tar().link("way", str(outside)).bytes()}))
    await restored(store, container, archive(tmp_path, {"deleted.files": b'["/way/kept"]'}))
    assert os.listdir(outside) == ["kept"]


async def test_who_may_have_written_an_archive(store: Store, tmp_path: Path) -> None:
    path = archive(tmp_path, {})

    async def outcome(where: Path) -> CrispError:
        with pytest.raises(CrispError) as caught:
            await store.service.describe(Checkpoint(archive=str(where)), a_call())
        return caught.value

    os.chown(path, 1000, 1000)
    assert isinstance(await outcome(path), PermissionDenied)
    os.chown(path, 0, 0)
    path.chmod(0o620)
    assert isinstance(await outcome(path), PermissionDenied)
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "symbolic link" in (await outcome(tmp_path / "link")).message
    assert "symbolic link" in (await outcome(tmp_path / "folder" / "archive.tar")).message
    assert "not a regular file" in (await outcome(tmp_path / "fifo")).message
    assert "not a regular file" in (await outcome(tmp_path)).message
    assert isinstance(await outcome(tmp_path / "none"), NotFound)
    assert isinstance(await outcome(Path("/etc/hostname")), InvalidInput)
    large = archive(tmp_path, {"checkpoint/pages-2.img": bytes(65 << 20)})
    assert isinstance(await outcome(large), ResourceExhausted)
