"""Limits of writable layers: by the file system's project quotas where they are in force, else refused by name."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from kernel.config.sections import Config, StorageSection
from kernel.contracts.definition import Nothing
from kernel.contracts.storage import ContainerRequest
from kernel.errors import FailedPrecondition
from kernel.host import syscalls
from services.storage.methods import create
from tests.integration.storage.conftest import CALL, Store, Tar
from tests.integration.storage.disk import Disk, small_disk

LIMITS = StorageSection(writable_bytes=4 << 20, writable_inodes=50)
QUOTAS = ("-O", "quota,project", "-E", "quotatype=prjquota")


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root, and mkfs.ext4")
    try:
        options, mount = request.param
        with small_disk(tmp_path, 64, *options, mount=mount) as made:
            yield made
    except subprocess.CalledProcessError as error:
        if not request.param[0]:
            raise
        pytest.skip(f"this kernel has no project quotas: {error.stderr.decode().strip()[:100]}")


@pytest.fixture
async def store(disk: Disk) -> AsyncIterator[Store]:
    config = Config(root=str(disk.mounted / "root"), run=str(disk.mounted / "run"), storage=LIMITS)
    config.paths.blobs.mkdir(parents=True)
    service = await create(config)
    try:
        yield Store(service, config)
    finally:
        await service.close()
        subprocess.run(["sh", "-c", f"umount {disk.mounted}/root/storage/containers/*/rootfs"], check=False)


def without_resource() -> None:
    """The storage worker's capabilities lack it, and with it no quota holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    permitted = int(next(line for line in lines if line.startswith("CapPrm")).split()[1], 16)
    syscalls.capset(permitted & ~(1 << 24), permitted & ~(1 << 24), 0)


def refused(step: Callable[[], object]) -> int:
    """Why a step cannot be done again and again."""
    for _ in range(100):
        try:
            step()
        except OSError as error:
            return error.errno or 0
    return 0


@pytest.mark.parametrize("disk", [((), ""), (QUOTAS, "")], indirect=True, ids=["none", "not enforced"])
async def test_without_quotas_limits_are_refused_by_name(store: Store) -> None:
    layer = await store.unpack(Tar().add("a", b"x"))
    with pytest.raises(FailedPrecondition, match=r"storage\.writable_bytes.*prjquota"):
        await store.mount(layer)
    (container,) = (await store.service.inventory(Nothing(), CALL)).containers
    await store.service.unmount(ContainerRequest(container_id=container), CALL)
    assert os.listdir(store.paths.containers) == []


@pytest.mark.parametrize("disk", [(QUOTAS, ",prjquota")], indirect=True)
async def test_a_container_cannot_write_more_than_its_share(store: Store) -> None:
    without_resource()
    layer = await store.unpack(Tar().add("a", b"x" * 100_000))
    one, first = await store.mount(layer)
    _, second = await store.mount(layer)
    with open(first / "big", "wb", buffering=0) as file:
        assert refused(lambda: file.write(bytes(1 << 20))) == errno.EDQUOT
    assert 2 << 20 <= (first / "big").stat().st_size <= 4 << 20
    (second / "small").write_bytes(bytes(2 << 20))  # its own share
    names = iter(range(100))
    assert refused(lambda: (second / f"f{next(names)}").touch()) == errno.EDQUOT
    (first / "big").unlink()
    (first / "fits").write_bytes(bytes(1 << 20))
    await store.service.unmount(ContainerRequest(container_id=one), CALL)
    _, third = await store.mount(layer)
    (third / "new").write_bytes(bytes(3 << 20))
