from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.runtime.node import admin_files

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files must belong to root")


def test_files_in_order(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "c.txt", ".d.json"):
        (tmp_path / name).write_text(name)
    found = admin_files.read([str(tmp_path / "none"), str(tmp_path)], (".json",))
    assert [(file.name, file.content, file.reason) for file in found] == [
        ("a.json", b"a.json", ""), ("b.json", b"b.json", ""),
    ]  # fmt: skip
    assert found[0].path == f"{tmp_path}/a.json"


def test_only_roots_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_files, "_LARGEST", 4)
    for name in ("group", "owner", "large"):
        (tmp_path / name).write_text("x" if name != "large" else "xxxxx")
    (tmp_path / "group").chmod(0o664)
    os.chown(tmp_path / "owner", 1000, 0)
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    found = {file.name: file for file in admin_files.read([str(tmp_path)], ("",))}
    assert set(found) == {"group", "owner", "large", "pipe", "link", "folder"}
    assert all(file.reason and not file.content for file in found.values())


def test_a_folder_that_others_can_write_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    tmp_path.chmod(0o777)
    (file,) = admin_files.read([str(tmp_path)], (".json",))
    assert "folder" in file.reason
