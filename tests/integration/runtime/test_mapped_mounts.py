"""Id-mapped copies of volumes: attached, and taken off without a loss to what they are copies of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.contracts.oci import IdMap, IdRange, ImageConfig
from kernel.contracts.runtime import CreateRequest, Mount, PodRequest, Propagation
from kernel.errors import FailedPrecondition
from kernel.host import syscalls
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId
from services.runtime.namespaces import mapped_mounts, namespace_pins

IDS = IdRange(container_id=0, host_id=100000, length=10)
MAP = IdMap(uids=IDS, gids=IDS)
CONTAINER = ContainerId("2" * 64)
POD = PodRequest(sandbox_id=SandboxId("1" * 64), name="n", namespace="s", uid="u")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A volume that is a shared mount, with another one below it."""
    source = tmp_path / "source"
    source.mkdir()
    syscalls.mount("test", source, "tmpfs")
    try:
        syscalls.mount("none", source, flags=syscalls.MS_SHARED)
        (source / "below").mkdir()
        syscalls.mount("test", source / "below", "tmpfs")
        (source / "below" / "precious").touch()
        yield source
    finally:
        namespace_pins.unmount(source / "below")
        namespace_pins.unmount(source)


def plan(root: Path, *sources: Path, propagation: Propagation = Propagation.PRIVATE) -> tuple[mapped_mounts.Copy, ...]:
    request = CreateRequest(
        container_id=CONTAINER, sandbox_id=POD.sandbox_id, name="c", attempt=0, image=ImageConfig(), image_name="i",
        image_ref="r", mounts=tuple(
            Mount(container_path=f"/{number}", host_path=str(source), id_map=MAP, propagation=propagation)
            for number, source in enumerate(sources)
        ),
    )  # fmt: skip
    return mapped_mounts.plan(root, request, tuple(str(source) for source in sources))[1]


@pytest.mark.parametrize("propagation", [Propagation.PRIVATE, Propagation.HOST_TO_CONTAINER])
async def test_taking_a_copy_off_takes_nothing_off_its_source(
    tmp_path: Path, tree: Path, propagation: Propagation
) -> None:
    copies = plan(tmp_path, tree, propagation=propagation)
    await mapped_mounts.make(copies, POD, tmp_path / "no-pin", Deadline.after(20))
    try:
        assert (copies[0].point / "below" / "precious").stat().st_uid == 100000
        (tree / "later").mkdir()
        syscalls.mount("test", tree / "later", "tmpfs")
        seen = os.path.ismount(copies[0].point / "later")
        assert seen == (propagation is Propagation.HOST_TO_CONTAINER)
    finally:
        mapped_mounts.remove(tmp_path, CONTAINER)
        namespace_pins.unmount(tree / "later")
    assert (tree / "below" / "precious").exists()
    assert os.path.ismount(tree / "below"), "what is mounted on the host went with the copy"
    assert not mapped_mounts.folder(tmp_path, CONTAINER).exists()


async def test_a_source_that_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FailedPrecondition, match=r"mounts\[1\]\.uidMappings: '/proc'"):
        await mapped_mounts.make(plan(tmp_path, file, Path("/proc")), POD, tmp_path / "no-pin", Deadline.after(20))
    mapped_mounts.remove(tmp_path, CONTAINER)
    assert file.exists()
    assert not mapped_mounts.folder(tmp_path, CONTAINER).exists()
