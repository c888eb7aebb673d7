"""Which mounts a path leads into."""

from __future__ import annotations

from pathlib import Path

from services.runtime.namespaces import slow_sources


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
