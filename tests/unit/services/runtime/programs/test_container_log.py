"""Where a container's log may be, and what is made of its path."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.programs import container_log

CONTAINER = ContainerId("c" * 64)


def prepare(tmp_path: Path, log_path: str) -> Path | None:
    pod = PodRequest(
        sandbox_id=SandboxId("a" * 64), name="n", namespace="s", uid="u", log_directory=str(tmp_path / "logs")
    )
    request = CreateRequest(
        container_id=CONTAINER, sandbox_id=pod.sandbox_id, name="n", attempt=0, image=ImageConfig(), image_name="i",
        image_ref="i", log_path=log_path,
    )  # fmt: skip
    assert container_log.prepare(msgspec.structs.replace(pod, log_directory=""), request) is None
    return container_log.prepare(pod, request)


def test_a_log_is_made_with_the_folders_to_it(tmp_path: Path) -> None:
    assert prepare(tmp_path, "a/b/0.log") == tmp_path / "logs" / "a" / "b" / "0.log"
    assert (tmp_path / "logs/a/b/0.log").stat().st_mode & 0o777 == 0o640
    (tmp_path / "logs/a/b/0.log").write_text("kept")
    prepare(tmp_path, "a/b/0.log")
    assert (tmp_path / "logs/a/b/0.log").read_text() == "kept"
    assert prepare(tmp_path, "") is None


def test_a_log_directory_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "logs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="log_directory"):
        prepare(tmp_path, "0.log")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../../x", "link/x", "folder", "fifo", "filelink", "x" * 5000, "x" * 300, "a\0"]
)
def test_a_log_stays_below_its_directory(tmp_path: Path, path: str) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "link").symlink_to(tmp_path)
    (logs / "filelink").symlink_to(tmp_path / "target")
    (logs / "folder").mkdir()
    os.mkfifo(logs / "fifo")
    with pytest.raises(InvalidInput, match="log_path"):
        prepare(tmp_path, path)
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "target").exists()
