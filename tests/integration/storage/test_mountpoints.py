"""An image that has the OCI runtime's mount points as links, out of the root or within it; its container has not."""

from __future__ import annotations

import stat
import tarfile

import pytest

from tests.integration.storage.conftest import Store, Tar


@pytest.mark.parametrize("target", ["/tmp", "../../../../tmp", "/proc/self/cwd", "usr", "/no/where"])
async def test_links_become_plain(store: Store, target: str) -> None:
    tar = Tar().folder("usr").folder("etc", mode=0o750, uid=3)
    for name in ("dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "run"):
        tar.link(name, target)
    layer = await store.unpack(tar)
    _, root = await store.mount(layer)
    for name in ("dev", "proc", "sys"):
        assert stat.S_IMODE((root / name).lstat().st_mode) == 0o755
        assert list((root / name).iterdir()) == []
    for name in ("hosts", "hostname", "resolv.conf"):
        assert stat.S_ISREG((root / "etc" / name).lstat().st_mode)
    assert (root / "etc/mtab").is_symlink()  # nothing of ours is mounted there
    assert (root / "run").is_symlink()
    assert (stat.S_IMODE((root / "etc").stat().st_mode), (root / "etc").stat().st_uid) == (0o750, 3)
    assert (store.diff(layer) / "dev").is_symlink()  # the layer is as the image says


async def test_a_folder_of_settings_that_leads_elsewhere(store: Store) -> None:
    _, root = await store.mount(await store.unpack(Tar().folder("other").add("other/hosts", b"h").link("etc", "other")))
    assert (root / "etc").is_dir()
    assert not (root / "etc").is_symlink()
    assert list((root / "etc").iterdir()) == []


async def test_other_traps(store: Store) -> None:
    tar = Tar().add("dev", b"a file").folder("etc").add("etc/hosts", kind=tarfile.FIFOTYPE)
    tar.add("etc/resolv.conf", kind=tarfile.CHRTYPE, devmajor=1, devminor=3).folder("etc/hostname")
    _, root = await store.mount(await store.unpack(tar))
    assert (root / "dev").is_dir()
    assert stat.S_ISREG((root / "etc/hosts").lstat().st_mode)
    assert stat.S_ISREG((root / "etc/resolv.conf").lstat().st_mode)
    assert (root / "etc/hostname").is_dir()


async def test_most_images_need_nothing(store: Store) -> None:
    layer = await store.unpack(Tar().folder("etc").add("etc/hosts", b"kept").folder("dev").add("dev/null", b"kept"))
    container, root = await store.mount(layer)
    assert (root / "etc/hosts").read_bytes() == b"kept"
    assert not (store.paths.containers / container / "top").exists()
    hidden = await store.unpack(Tar().add(".wh.etc"))
    _, root = await store.mount(layer, hidden)
    assert not (root / "etc").exists()
