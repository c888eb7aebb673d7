"""The top layer: only where it is needed, mapped as the rest is, and made anew where a crash left half of one."""

from __future__ import annotations

import stat

from kernel.contracts.storage import ContainerRequest, MountRequest
from kernel.host import syscalls
from kernel.ids import ContainerId, new_id
from tests.integration.storage.conftest import CALL, Store, Tar


async def test_half_of_one_is_made_anew_and_a_whole_one_stays(store: Store) -> None:
    lowest = await store.unpack(Tar().folder("d", mode=0o700, uid=5))
    upper = await store.unpack(Tar().add("d/x").link("dev", "/tmp"))
    container = ContainerId(new_id())
    folder = store.paths.containers / container
    (folder / "top.new" / "d" / "left").mkdir(parents=True)
    (folder / "top.work" / "work").mkdir(parents=True)
    request = MountRequest(container_id=container, layers=(lowest, upper))
    await store.service.mount(request, CALL)
    for _ in range(2):
        root = store.paths.rootfs(container)
        assert (stat.S_IMODE((root / "d").stat().st_mode), (root / "d").stat().st_uid) == (0o700, 5)
        assert [path.name for path in (root / "d").iterdir()] == ["x"]
        assert not (root / "dev").is_symlink()
        assert sorted(path.name for path in folder.glob("top*")) == ["top"]
        syscalls.umount2(root)  # as a reboot would
        await store.service.mount(request, CALL)
    await store.service.unmount(ContainerRequest(container_id=container), CALL)
    assert not folder.exists()


async def test_by_mount_where_the_kernel_takes_no_list(store: Store, monkeypatch) -> None:
    def refuse(fd: int, key: str, value: str) -> None:
        raise OSError(22, "Invalid argument", key)

    lowest = await store.unpack(Tar().folder("d", mode=0o700, uid=5))
    upper = await store.unpack(Tar().add("d/x"))
    monkeypatch.setattr(syscalls, "fsconfig_string", refuse)
    _, root = await store.mount(lowest, upper)
    assert (stat.S_IMODE((root / "d").stat().st_mode), (root / "d").stat().st_uid) == (0o700, 5)
