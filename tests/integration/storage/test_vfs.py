"""Copies of layers show what an overlay of them shows, byte for byte and bit for bit."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from kernel.contracts.definition import Nothing
from kernel.contracts.oci import IdMap, IdRange
from kernel.contracts.storage import ContainerRequest, MountRequest
from kernel.ids import ContainerId, DiffId, new_id
from services.storage.methods import create
from services.storage.roots import vfs
from services.storage.roots.root_store import Mapped
from tests.integration.storage.conftest import CALL, Store, Tar

V2 = "\x01\x00\x00\x02" + "\x00" * 16


@pytest.fixture
async def copies(store: Store) -> AsyncIterator[Store]:
    config = replace(store.config, storage=replace(store.config.storage, driver="vfs"))
    service = await create(config)
    try:
        yield Store(service, config)
    finally:
        await service.close()


async def layers(store: Store) -> tuple[DiffId, ...]:
    lowest = Tar().folder("./", mode=0o751, uid=3).folder("d", mode=0o1777).add("d/a", b"a").add("d/b", b"b")
    lowest.folder("e", uid=4).add("e/old").add("f", b"f").link("l", "d").folder("g").add("g/x").add("h", b"file")
    lowest.add("one", b"x" * 5000).link("two", "one", tarfile.LNKTYPE).folder("dead/way").add("dead/way/f")
    middle = Tar().add("d/.wh.a").add("d/c", b"implied d").folder("e", uid=5).add("e/.wh..wh..opq").add("e/new")
    middle.add(".wh.f").add("g", b"a file now").folder("h", mode=0o700).add("h/below").add("l", b"no link now")
    top = Tar().add("bin", b"x" * 300_000, mode=0o4755, uid=6, pax_headers={"SCHILY.xattr.security.capability": V2})
    top.add("n", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666).add("p", kind=tarfile.FIFOTYPE)
    top.add("d/n", b"", pax_headers={"SCHILY.xattr.user.note": "kept"}).link("s", "/no/where").add(".wh.dead")
    top.add("dead/again").link("dev", "/tmp")
    return tuple([await store.unpack(tar) for tar in (lowest, middle, top)])


def seen(root: Path) -> dict[str, tuple[object, ...]]:
    """All that can be told of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for path in [Path(folder), *(Path(folder) / name for name in (*folders, *files))]:
            status = path.lstat()
            links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
            content: object = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            if path.is_symlink():
                content = os.readlink(path)
            attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in xattrs(path)}
            found[str(path.relative_to(root))] = (
                status.st_mode, status.st_uid, status.st_gid, status.st_rdev, links, content, attributes,
                0 if path.name == "dev" else status.st_mtime_ns,
            )  # fmt: skip
    return found


def xattrs(path: Path) -> list[str]:
    return sorted(name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("trusted."))


async def test_a_copy_is_what_an_overlay_shows(store: Store, copies: Store) -> None:
    stack = await layers(store)
    container = ContainerId(new_id())
    request = MountRequest(container_id=container, layers=stack, volumes=(stack[:2],))
    other = MountRequest(container_id=ContainerId(new_id()), layers=stack, volumes=(stack[:2],))
    await copies.service.mount(request, CALL)
    await copies.service.mount(request, CALL)  # a repeat
    await store.service.mount(other, CALL)
    copy, overlay = copies.paths.rootfs(container), copies.paths.rootfs(other.container_id)
    assert seen(copy) == seen(overlay)
    volume = copies.paths.image_volume
    assert seen(volume(container, 0)) == seen(volume(other.container_id, 0))
    assert not (copy / "dev").is_symlink()
    (copy / "written").write_bytes(b"x" * 10_000)
    assert copies.service._roots.measure(container).bytes > 300_000  # a copy takes what it copies
    assert (await copies.service.fs_info(Nothing(), CALL)).driver == "vfs"
    assert (await store.service.fs_info(Nothing(), CALL)).driver == "overlay"
    assert container in (await copies.service.inventory(Nothing(), CALL)).mounted
    again = await create(store.config)  # one that could mount overlays goes on with what is there
    try:
        await again.mount(request, CALL)
        assert (copy / "written").exists()
        await again.unmount(ContainerRequest(container_id=container), CALL)
    finally:
        await again.close()
    assert not copy.exists()


async def test_half_a_copy_is_made_anew(copies: Store) -> None:
    layer = await copies.unpack(Tar().add("a", b"a"))
    container = ContainerId(new_id())
    folder = copies.paths.containers / container
    (folder / "rootfs.new" / "half").mkdir(parents=True)
    (folder / "copy").touch()
    assert (await copies.service.inventory(Nothing(), CALL)).mounted == ()
    await copies.service.mount(MountRequest(container_id=container, layers=(layer,)), CALL)
    assert os.listdir(folder / "rootfs") == ["a"]


async def test_where_an_overlay_is_refused(tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Below another overlay none can have its writable layer: as in a container that holds nodes."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "x", "-o", options, str(tmp_path / "merged")], check=True)
    config = replace(store.config, root=str(tmp_path / "merged" / "root"))
    config.paths.blobs.mkdir(parents=True)
    service = await create(config)
    try:
        refused = Store(service, config)
        _, root = await refused.mount(await refused.unpack(Tar().folder("d", mode=0o710).add("d/a", b"a")))
        assert (root / "d/a").read_bytes() == b"a"
        assert (await service.fs_info(Nothing(), CALL)).driver == "vfs"
        assert "containers get copies of their layers: overlay of 1 layers" in caplog.text
    finally:
        await service.close()


def test_owners_are_those_of_the_user_namespace(tmp_path: Path, store: Store) -> None:
    layer, target = tmp_path / "layer", tmp_path / "target"
    for folder in (layer, target):
        folder.mkdir()
    (layer / "f").touch()
    os.chown(layer / "f", 5, 70_000)
    ids = IdRange(container_id=0, host_id=100_000, length=65_536)
    mapped = Mapped(namespace=tmp_path, ids=IdMap(uids=ids, gids=ids))
    os.close(vfs.make(target, [(layer, frozenset())], mapped.ids))
    status = (target / "f").stat()
    assert (status.st_uid, status.st_gid) == (100_005, 100_000)  # one that it does not know is its root's
