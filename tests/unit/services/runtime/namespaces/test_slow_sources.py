"""Which mounts a path leads into, and what becomes of sources that do not answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, Mount
from kernel.errors import FailedPrecondition
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId
from services.runtime.namespaces import slow_sources
from services.runtime.namespaces.mount_table import HostMount


def test_what_a_path_enters(tmp_path: Path) -> None:
    share = tmp_path / "share"
    (tmp_path / "to-share").symlink_to("share")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "up").symlink_to("../to-share/x")
    (tmp_path / "loop").symlink_to("loop")
    points = [str(share)]
    for path in (f"{share}", f"{share}/x", f"{tmp_path}/to-share", f"{tmp_path}/deep/up", f"{tmp_path}/deep/../share"):
        assert slow_sources.entered(path, points) == str(share), path
    for path in (str(tmp_path), f"{tmp_path}/deep", f"{tmp_path}/sharex", f"{tmp_path}/loop/share", "/"):
        assert slow_sources.entered(path, points) == "", path


@pytest.fixture
def doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every source be on a file system that could hang."""
    mount = HostMount(point="/", fstype="nfs4", marks=())
    monkeypatch.setattr(slow_sources, "_doubtful", lambda wanted: [(index, path, mount) for index, path in wanted])


async def answers(path: str, deadline: Deadline) -> bool:
    if path == "/bug":
        await asyncio.sleep(0)
        raise ZeroDivisionError
    return path != "/dead"


@pytest.mark.parametrize(
    ("paths", "error"), [(("/dead", "/bug"), ZeroDivisionError), (("/x", "/dead"), FailedPrecondition)]
)
async def test_a_bug_is_not_hidden_by_a_source_that_hangs(
    doubtful: None, monkeypatch: pytest.MonkeyPatch, paths: tuple[str, ...], error: type[Exception]
) -> None:
    monkeypatch.setattr(slow_sources, "_answers", answers)
    mounts = tuple(Mount(container_path="/x", host_path=path) for path in paths)
    request = CreateRequest(
        container_id=ContainerId("c" * 64), sandbox_id=SandboxId("a" * 64), name="n", attempt=0, image=ImageConfig(),
        image_name="box", image_ref="box", mounts=mounts,
    )  # fmt: skip
    with pytest.raises(error):
        await slow_sources.wait_answers(request, Deadline.after(10))
