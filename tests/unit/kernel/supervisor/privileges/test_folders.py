"""The folders' plan, and its execution on folders of this user's own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kernel.config.sections import Config
from kernel.errors import FailedPrecondition
from kernel.supervisor.privileges import folders
from kernel.supervisor.privileges.workers import PROCESSES


def config(tmp_path: Path, **fields: str) -> Config:
    return Config(root=str(tmp_path / "root"), run=str(tmp_path / "run"), **fields)


def own(_user: str) -> tuple[int, int]:
    return os.geteuid(), os.getegid()


def test_only_callers_enter_a_workers_folder_on_the_bus(tmp_path: Path) -> None:
    plan = {folder.below: folder for folder in folders.plan_folders(config(tmp_path))}
    for one in PROCESSES:
        if one.contract:
            folder = plan[f"bus/{one.name}"]
            assert (folder.mode, folder.user, folder.group) == (0o2750, one.user(Config()), "crisp")


def test_parents_come_first(tmp_path: Path) -> None:
    seen: set[Path] = set()
    for folder in folders.plan_folders(config(tmp_path)):
        path = folder.base / folder.below
        assert not folder.below or path.parent in seen, path
        seen.add(path)


def test_modes_are_mended(tmp_path: Path) -> None:
    settings = config(tmp_path)
    folders.make(settings, own)
    state = settings.paths.state_db.parent
    state.chmod(0o777)
    folders.make(settings, own)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert settings.paths.blobs.is_dir()


def test_a_link_in_a_workers_folder_is_not_followed(tmp_path: Path) -> None:
    settings = config(tmp_path)
    folders.make(settings, own)
    settings.paths.blobs.rmdir()
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    settings.paths.blobs.symlink_to(victim)
    with pytest.raises(FailedPrecondition, match="is no folder"):
        folders.make(settings, own)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o755


def test_the_sockets_path_leads_to_where_the_front_binds_it(tmp_path: Path) -> None:
    settings = config(tmp_path, socket=str(tmp_path / "elsewhere" / "cri.sock"))
    for _ in range(2):
        folders.link_socket(settings)
    assert settings.paths.socket.readlink() == settings.paths.front_socket


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    settings = config(tmp_path)
    settings.paths.run.mkdir()
    settings.paths.socket.write_text("mine")
    with pytest.raises(FailedPrecondition, match="neither a socket nor a link"):
        folders.link_socket(settings)
    assert settings.paths.socket.read_text() == "mine"
