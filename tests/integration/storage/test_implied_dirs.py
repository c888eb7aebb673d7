"""A layer that changes a file in a folder, and says nothing of the folder, changes nothing of the folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kernel.contracts.storage import MountRequest
from kernel.ids import ContainerId, DiffId, new_id
from services.storage.roots import implied_dirs, merged_view
from tests.integration.storage.conftest import CALL, Store, Tar


def look(path: Path) -> tuple[int, int, int, float]:
    status = path.lstat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime


async def base(store: Store) -> DiffId:
    tar = Tar().folder("./", mode=0o751, uid=3).folder("tmp", mode=0o1777, mtime=1_500_000_000)
    tar.folder("home", mode=0o711, uid=7).folder("home/web", mode=0o2770, uid=1000, gid=1001)
    return await store.unpack(
        tar.folder("home/web/d", mode=0o700, uid=5, pax_headers={"SCHILY.xattr.user.note": "kept"}).add("home/web/d/f")
    )


async def test_a_folder_looks_as_the_layer_that_says_it(store: Store) -> None:
    lowest = await base(store)
    upper = await store.unpack(Tar().add("tmp/x", b"x").add("home/web/d/f", b"new").add("own/f"))
    again = await store.unpack(Tar().add("home/web/d/g"))
    _, root = await store.mount(lowest, upper, again)
    assert look(root) == (0o751, 3, 0, 1_700_000_000)
    assert look(root / "tmp") == (0o1777, 0, 0, 1_500_000_000)
    assert look(root / "home")[:3] == (0o711, 7, 0)
    assert look(root / "home/web")[:3] == (0o2770, 1000, 1001)
    assert look(root / "home/web/d")[:3] == (0o700, 5, 0)
    assert os.getxattr(root / "home/web/d", "user.note") == b"kept"
    assert look(root / "own")[:3] == (0o755, 0, 0)  # no layer says how it looks
    assert sorted(os.listdir(root / "home/web/d")) == ["f", "g"]
    assert (root / "home/web/d/f").read_bytes() == b"new"
    (root / "home/web/d/written").touch()


async def test_in_an_image_volume_the_root_too(store: Store) -> None:
    lowest = await base(store)
    upper = await store.unpack(Tar().add("home/web/x", b"x"))
    container = ContainerId(new_id())
    await store.service.mount(MountRequest(container_id=container, layers=(), volumes=((lowest, upper),)), CALL)
    volume = store.paths.image_volume(container, 0)
    assert look(volume)[:3] == (0o751, 3, 0)
    assert look(volume / "home/web")[:3] == (0o2770, 1000, 1001)


async def test_what_hides_says_the_end(store: Store) -> None:
    lowest = await base(store)
    opaque = await store.unpack(Tar().folder("home", mode=0o705).add("home/.wh..wh..opq").add("home/web/x"))
    _, root = await store.mount(lowest, opaque)
    assert look(root / "home")[:3] == (0o705, 0, 0)
    assert look(root / "home/web")[:3] == (0o755, 0, 0)
    gone = await store.unpack(Tar().add("home/.wh.web"))
    back = await store.unpack(Tar().add("home/web/x"))
    _, root = await store.mount(lowest, gone, back)
    assert look(root / "home")[:3] == (0o711, 7, 0)
    assert look(root / "home/web")[:3] == (0o755, 0, 0)
    assert os.listdir(root / "home/web") == ["x"]
    said = await store.unpack(Tar().folder("home/web", mode=0o700, uid=9))
    _, root = await store.mount(lowest, back, said)
    assert look(root / "home/web")[:3] == (0o700, 9, 0)


def test_a_file_in_between_ends_it_and_folders_of_one_layer_are_not_asked_for(tmp_path: Path) -> None:
    diffs = [tmp_path / name for name in "abc"]
    (diffs[0] / "d/e").mkdir(parents=True)
    (diffs[1]).mkdir()
    (diffs[1] / "d").write_bytes(b"")
    (diffs[2] / "d/e").mkdir(parents=True)
    (diffs[2] / "only/one").mkdir(parents=True)
    said = [frozenset[bytes](), frozenset[bytes](), frozenset({b"d", b"d/e", b"only", b"only/one"})]
    with merged_view.opened(diffs) as layers:
        assert implied_dirs.plan(layers, said) == ()
    (diffs[1] / "d").unlink()
    with merged_view.opened(diffs) as layers:
        assert implied_dirs.plan(layers, said) == (implied_dirs.Look(b"d", 0), implied_dirs.Look(b"d/e", 0))


async def test_whiteouts_that_hide_nothing_are_not_seen(store: Store) -> None:
    """The kernel filters them in folders that it merges, and only there."""
    lowest = await store.unpack(Tar().folder("a", mode=0o710).add("a/.wh.none").add("a/x").folder("b").add("b/x"))
    upper = await store.unpack(Tar().add("new/.wh.none").add("new/x").add("b/.wh..wh..opq").add("b/.wh.x").add("b/y"))
    container = ContainerId(new_id())
    request = MountRequest(container_id=container, layers=(lowest, upper), volumes=((lowest, upper),))
    await store.service.mount(request, CALL)
    for root in (store.paths.rootfs(container), store.paths.image_volume(container, 0)):
        assert os.listdir(root / "a") == ["x"]
        assert os.listdir(root / "new") == ["x"]
        assert os.listdir(root / "b") == ["y"]
        assert look(root / "a")[:3] == (0o710, 0, 0)
