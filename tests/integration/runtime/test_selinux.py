"""Relabelling by a child process: labels are extended attributes, which file systems keep without SELinux too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.errors import Internal, InvalidInput
from kernel.host.aio import Deadline
from services.runtime.security import selinux

LABEL = "system_u:object_r:container_file_t:s0:c1,c2"


def label(path: Path) -> str:
    """What a file's own attribute says; empty for none."""
    try:
        return os.getxattr(path, "security.selinux", follow_symlinks=False).decode().rstrip("\0")
    except OSError:  # it has none
        return ""


async def test_a_tree_is_relabelled_and_no_link_followed(tmp_path: Path) -> None:
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "folder").mkdir(parents=True)
    (volume / "folder" / "file").touch()
    (volume / "--version").touch()
    outside.touch()
    (volume / "link").symlink_to(outside)
    (volume / "folder" / "up").symlink_to(tmp_path)
    before = label(outside), label(tmp_path)
    await selinux.relabel(0, str(volume), LABEL, Deadline.after(10))
    inside = [volume, volume / "folder", volume / "folder" / "file", volume / "--version"]
    assert [label(path) for path in inside] == [LABEL] * 4
    assert (label(outside), label(tmp_path)) == before


async def test_a_relabel_that_fails_names_its_mount(tmp_path: Path) -> None:
    with pytest.raises(Internal, match=r"mounts\[2\]\.selinux_relabel: .*No such file"):
        await selinux.relabel(2, str(tmp_path / "none"), LABEL, Deadline.after(10))


async def test_a_link_to_the_hosts_folders_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(InvalidInput, match="belongs to the host"):
        await selinux.relabel(0, str(tmp_path / "link"), LABEL, Deadline.after(10))
