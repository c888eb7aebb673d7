"""Where archives may go, and that they appear whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.config.sections import Config
from kernel.errors import FailedPrecondition, InvalidInput, ResourceExhausted
from services.runtime.checkpoints import target

CONFIG = Config(root="/var/lib/crisp", run="/run/crisp")


@pytest.mark.parametrize(
    "place", ["etc/x", "", "/", "/tmp/", "/tmp/.", "/tmp/..", "/tmp/../etc/x", "/tmp/a\0b", "relative"]
)
def test_not_the_path_of_a_file(place: str) -> None:
    with pytest.raises(InvalidInput, match="location: "):
        target.check(place, CONFIG)


@pytest.mark.parametrize("folder", ["/etc", "/etc/cron.d", "/usr/bin", "/proc", "/sys/fs/cgroup", "/dev/shm", "/bin"])
def test_the_system_s_folders_are_no_place(folder: str) -> None:
    if not Path(folder).is_dir():
        pytest.skip(f"{folder} is not here")
    with pytest.raises(InvalidInput, match="not a folder for archives"):
        target.check(f"{folder}/x", CONFIG)


def test_crisp_s_own_folders_are_no_place_by_any_way(tmp_path: Path) -> None:
    config = Config(root=str(tmp_path / "root"), run=str(tmp_path / "run"))
    (tmp_path / "root" / "state").mkdir(parents=True)
    (tmp_path / "way").symlink_to(tmp_path / "root" / "state")
    (tmp_path / "etc").symlink_to("/etc")
    for place in ("root/x", "root/state/x", "way/x", "etc/x"):
        with pytest.raises(InvalidInput, match="not a folder for archives"):
            target.check(f"{tmp_path}/{place}", config)
    assert not target.is_forbidden("/var/lib/kubelet/checkpoints", CONFIG)
    assert not target.is_forbidden("/etcetera", CONFIG)


def test_what_is_there_must_be_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    for name in ("link", "folder", "fifo"):
        with pytest.raises(InvalidInput, match="not a regular file"):
            target.check(str(tmp_path / name), CONFIG)
    with pytest.raises(FailedPrecondition, match="its folder: No such file"):
        target.check(str(tmp_path / "missing" / "x"), CONFIG)
    with pytest.raises(FailedPrecondition, match="its folder: Not a directory"):
        target.check(str(tmp_path / "file" / "x"), CONFIG)
    (tmp_path / "old").write_text("old")
    target.check(str(tmp_path / "old"), CONFIG)
    target.check(str(tmp_path / "new"), CONFIG)


def test_a_file_appears_whole_for_root_alone(tmp_path: Path) -> None:
    place = tmp_path / "archive.tar"
    place.write_text("older and longer")
    place.chmod(0o644)
    with target.replacing(str(place), "mark", CONFIG) as file:
        file.write(b"new")
        assert place.read_text() == "older and longer"
    assert place.read_bytes() == b"new"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["archive.tar"]


def written(place: Path, meanwhile: Callable[[], None]) -> None:
    with target.replacing(str(place), "mark", CONFIG) as file:
        file.write(b"new")
        meanwhile()


def test_after_an_error_all_is_as_before(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    place = tmp_path / "archive.tar"
    place.write_text("old")
    with pytest.raises(ResourceExhausted, match="cannot be written: No space"):
        written(place, full)
    assert place.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["archive.tar"]


def test_what_was_cut_off_is_found_again(tmp_path: Path) -> None:
    place = tmp_path / "archive.tar"
    (tmp_path / target.temporary_name("archive.tar", "mark")).write_text("half")
    target.discard(str(place), "mark")
    target.discard(str(place), "mark")
    target.discard("/nowhere/at/all", "mark")
    assert list(tmp_path.iterdir()) == []


def test_a_link_put_there_meanwhile_is_not_followed(tmp_path: Path) -> None:
    place = tmp_path / "archive.tar"
    with pytest.raises(InvalidInput, match="not a regular file"):
        written(place, lambda: place.symlink_to(tmp_path / "target"))
    assert not (tmp_path / "target").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["archive.tar"]
