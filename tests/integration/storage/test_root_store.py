"""Root file systems: layers merged as the image says, kept over repeats, gone after unmount."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kernel.contracts.definition import Nothing
from kernel.contracts.storage import ContainerRequest, LayerRequest, MountRequest
from kernel.errors import FailedPrecondition, NotFound
from kernel.host import syscalls
from kernel.ids import ContainerId, DiffId, Digest, new_id
from services.storage.roots import overlay
from services.storage.roots.overlay import read_overlays
from tests.integration.storage.conftest import CALL, Store, Tar


async def base(store: Store) -> DiffId:
    tar = Tar().folder("./", mode=0o751, uid=3).folder("d").add("d/a", b"base a").add("d/b", b"base b").folder("e")
    return await store.unpack(tar.add("e/c", b"base c").add("f", b"base f"))


async def test_layers_merge(store: Store) -> None:
    lowest = await base(store)
    tar = Tar().folder("d").add("d/.wh.a").add("d/b", b"upper b").folder("e").add("e/new").add("e/.wh..wh..opq")
    upper = await store.unpack(tar.add(".wh.f").add("g", b"g"))
    _, root = await store.mount(lowest, upper)
    assert sorted(os.listdir(root)) == ["d", "e", "g"]
    assert os.listdir(root / "d") == ["b"]
    assert (root / "d/b").read_bytes() == b"upper b"
    assert os.listdir(root / "e") == ["new"]
    status = root.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o751, 3)  # no later layer says another one


async def test_hidden_and_made_anew_shows_nothing_of_below(store: Store) -> None:
    lowest = await base(store)
    upper = await store.unpack(Tar().add(".wh.d").folder("d").add("d/only").add(".wh.e").add("e/only"))
    _, root = await store.mount(lowest, upper)
    assert (os.listdir(root / "d"), os.listdir(root / "e")) == (["only"], ["only"])


async def test_a_container_writes_for_itself(store: Store) -> None:
    lowest = await base(store)
    one, first = await store.mount(lowest)
    _, second = await store.mount(lowest)
    (first / "d/a").write_bytes(b"mine")
    (first / "f").unlink()
    os.setxattr(first / "d/b", "user.x", b"y")
    mounted = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(first) in line)
    assert "volatile" in mounted.rpartition(" - ")[2]
    assert (second / "d/a").read_bytes() == b"base a"
    assert (store.diff(lowest) / "f").read_bytes() == b"base f"
    assert (await store.service.usage(ContainerRequest(container_id=one), CALL)).inodes == 1  # as it was a moment ago
    usage = store.service._roots.measure(one)
    assert usage.inodes == 5  # the folder itself, d, a, b and the whiteout of f
    assert usage.bytes >= 4096


@pytest.mark.parametrize("count", [0, 1, 128])
async def test_few_and_many_layers(store: Store, count: int) -> None:
    layers = [
        await store.unpack(Tar().add(f"f{number}").add("same", b"%d" % number)) for number in range(min(count, 8))
    ]
    for number in range(len(layers), count):  # the other hundred are copies by hand: each unpack takes a while
        diff_id = DiffId(Digest(f"sha256:{number:064x}"))
        place = store.paths.layer(diff_id)
        (place / "diff").mkdir(parents=True)
        (place / "diff" / f"f{number}").touch()
        (place / "layer.json").write_text('{"bytes": 0, "inodes": 1, "root": false}')
        layers.append(diff_id)
    _, root = await store.mount(*layers)
    assert len([name for name in os.listdir(root) if name.startswith("f")]) == count
    (root / "written").touch()
    assert stat.S_IMODE(root.stat().st_mode) == 0o755


async def test_the_same_layer_twice(store: Store) -> None:
    lowest = await store.unpack(Tar().add("a", b"1").add("b"))
    middle = await store.unpack(Tar().add(".wh.a").add("b", b"2"))
    _, root = await store.mount(lowest, middle, lowest)
    assert (root / "a").read_bytes() == b"1"
    assert (root / "b").read_bytes() == b""


async def test_by_mount_where_the_kernel_takes_no_list(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, key: str, value: str) -> None:
        raise OSError(22, "Invalid argument", key)

    layers = [await base(store)]
    for number in range(100):
        diff_id = DiffId(Digest(f"sha256:{number:064x}"))
        (store.paths.layer(diff_id) / "diff").mkdir(parents=True)
        (store.paths.layer(diff_id) / "layer.json").write_text('{"bytes": 0, "inodes": 1, "root": false}')
        layers.append(diff_id)
    monkeypatch.setattr(overlay.syscalls, "fsconfig_string", refuse)
    _, root = await store.mount(*layers)
    assert (root / "d/a").read_bytes() == b"base a"
    (root / "written").touch()


async def test_unmount(store: Store) -> None:
    container, root = await store.mount(await base(store))
    (root / "file").write_bytes(b"x")
    for _ in range(2):  # gone already is success
        await store.service.unmount(ContainerRequest(container_id=container), CALL)
    assert os.listdir(store.paths.containers) == []
    assert str(root) not in read_overlays()
    with pytest.raises(NotFound):
        await store.service.usage(ContainerRequest(container_id=container), CALL)


async def test_unmount_of_a_busy_root(store: Store) -> None:
    container, root = await store.mount(await base(store))
    with open(root / "d/a", "rb") as file:
        await store.service.unmount(ContainerRequest(container_id=container), CALL)
        assert file.read() == b"base a"
    assert os.listdir(store.paths.containers) == []


async def test_a_folder_that_outlived_its_mount(store: Store) -> None:
    """As after a reboot: what the container wrote is there, the mark of its volatile mount is in the way."""
    diff_id = await base(store)
    container, root = await store.mount(diff_id)
    (root / "written").write_bytes(b"x")
    syscalls.umount2(root)
    work = root.parent / "work" / "work" / "incompat"
    (work / "volatile").mkdir(parents=True, exist_ok=True)
    inventory = await store.service.inventory(Nothing(), CALL)
    assert (inventory.containers, inventory.mounted) == ((container,), ())
    await store.service.mount(MountRequest(container_id=container, layers=(diff_id,)), CALL)
    assert (root / "written").read_bytes() == b"x"
    assert (await store.service.inventory(Nothing(), CALL)).mounted == (container,)


async def test_a_mount_cut_off_before_its_folders(store: Store) -> None:
    diff_id = await base(store)
    container = ContainerId(new_id())
    folder = store.paths.containers / container
    (folder / "upper.new").mkdir(parents=True)
    await store.service.mount(MountRequest(container_id=container, layers=(diff_id,)), CALL)
    assert (folder / "rootfs/f").read_bytes() == b"base f"


async def test_file_capabilities_reach_the_container(store: Store) -> None:
    capability = "\x01\x00\x00\x02" + "\x00" * 16
    tar = Tar().add("bin", b"x", mode=0o4755, uid=5, pax_headers={"SCHILY.xattr.security.capability": capability})
    _, root = await store.mount(await store.unpack(tar))
    assert len(os.getxattr(root / "bin", "security.capability")) == 20
    assert (stat.S_IMODE((root / "bin").stat().st_mode), (root / "bin").stat().st_uid) == (0o4755, 5)


async def test_images_as_volumes(store: Store) -> None:
    lowest = await base(store)
    upper = await store.unpack(Tar().add("only", b"upper"))
    container = ContainerId(new_id())
    request = MountRequest(container_id=container, layers=(lowest,), volumes=((lowest, upper), (upper,)))
    await store.service.mount(request, CALL)
    await store.service.mount(request, CALL)  # a repeat
    paths = store.config.paths
    first, second = (paths.image_volume(container, number) for number in (0, 1))
    assert sorted(os.listdir(first)) == ["d", "e", "f", "only"]
    assert os.listdir(second) == ["only"]
    for folder in (first, second):
        with pytest.raises(OSError, match="Read-only"):
            (folder / "x").touch()
    with pytest.raises(FailedPrecondition, match=str(container)):
        await store.service.remove_layer(LayerRequest(diff_id=upper), CALL)
    with pytest.raises(FailedPrecondition):  # other volumes than it has
        await store.service.mount(MountRequest(container_id=container, layers=(lowest,)), CALL)
    await store.service.unmount(ContainerRequest(container_id=container), CALL)
    assert not [point for point in read_overlays() if str(container) in point]
    assert not first.exists()
    await store.service.remove_layer(LayerRequest(diff_id=upper), CALL)
