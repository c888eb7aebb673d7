from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.errors import Internal
from kernel.host.pidfd import Identity
from kernel.ids import ContainerId, SandboxId
from services.runtime.records import bundle
from services.runtime.records.bundle import ContainerBundle, ContainerState, Record

CONTAINER = ContainerId("c" * 64)
STATE = ContainerState(
    phase="created", sandbox_id=SandboxId("a" * 64), handler="runc", cgroup="/x", conmon_cgroup="/y",
    process=Identity(pid=1, start=2, boot="b"),
)  # fmt: skip


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    record = Record(tmp_path / "state.json", ContainerState)
    assert record.read() is None
    record.write(STATE)
    assert record.read() == STATE
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(Internal, match=r"gone/state\.json cannot be written: No such file"):
        Record(tmp_path / "gone" / "state.json", ContainerState).write(STATE)


@pytest.mark.parametrize("content", [b"", b"\0" * 10, b'{"phase": "created"}', b'{"phase": "crea', b"[]"])
def test_a_damaged_file_reads_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert Record(tmp_path / "x", ContainerState).read() is None


def test_what_is_no_plain_file_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("link", "fifo", "folder"):
        assert Record(tmp_path / name, ContainerState).read() is None


@pytest.mark.parametrize(
    ("text", "code"), [("0", 0), ("137\n", 137), ("-1", None), ("256", None), ("x", None), ("", None)]
)
def test_exit_files(tmp_path: Path, text: str, code: int | None) -> None:
    found = ContainerBundle(tmp_path, CONTAINER)
    assert found.exit() is None
    found.exit_dir.mkdir(parents=True)
    found.exit_file.write_text(text)
    told = found.exit()
    assert (told and told[0]) == code
    if told:
        assert told[1] == found.exit_file.stat().st_mtime_ns


def test_only_ids_are_listed(tmp_path: Path) -> None:
    assert bundle.container_ids(tmp_path) == []
    for name in (CONTAINER, "other", "." + CONTAINER[1:]):
        (tmp_path / "containers" / name).mkdir(parents=True)
    assert bundle.container_ids(tmp_path) == [CONTAINER]
    bundle.remove(tmp_path / "containers" / CONTAINER)
    bundle.remove(tmp_path / "containers" / CONTAINER)
    assert bundle.container_ids(tmp_path) == []
