"""Files replaced whole, and files that only their owner can have written."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from kernel.host import files
from kernel.host.files import NotTrusted

MINE = (os.geteuid(),)


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "record.json"
    before = os.umask(0o077)
    try:
        files.replace(path, b"one", durable=durable, mode=0o644)
        inode = path.stat().st_ino
        files.replace(path, b"two", durable=durable, owner=(os.geteuid(), os.getegid()))
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_ino != inode
    assert os.listdir(tmp_path) == ["record.json"]


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        files.replace(tmp_path / "record", b"", durable=False, mode=0o644)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == 0o644


def test_the_umask_decides_if_that_is_wanted(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with files.replacing(tmp_path / "archive", durable=False, mode=None) as file:
            file.write(b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "archive").stat().st_mode) == 0o640


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_durable_is_synced_with_its_folder(
    tmp_path: Path, durable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(fd).st_mode))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    files.replace(tmp_path / "record", b"one", durable=durable)
    assert synced == ([False, True] if durable else [])
    synced.clear()
    (tmp_path / "fresh").write_bytes(b"two")
    files.put_in_place(tmp_path / "fresh", tmp_path / "record", durable=durable)
    assert synced == ([False, True] if durable else [])
    assert (tmp_path / "record").read_bytes() == b"two"


def test_after_an_error_the_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_bytes(b"before")

    def write_half() -> None:
        with files.replacing(path, durable=True) as file:
            file.write(b"some")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        write_half()
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["record"]


def test_what_an_attempt_left_is_not_written_through(tmp_path: Path) -> None:
    path, other = tmp_path / "record", tmp_path / "other"
    other.write_bytes(b"untouched")
    files.temporary(path).symlink_to(other)
    files.replace(path, b"new", durable=False)
    assert path.read_bytes() == b"new"
    assert other.read_bytes() == b"untouched"
    files.temporary(path).hardlink_to(other)
    files.replace(path, b"newer", durable=False)
    assert other.read_bytes() == b"untouched"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "record", tmp_path / "other"
    other.write_bytes(b"untouched")
    path.symlink_to(other)
    files.replace(path, b"new", durable=False)
    assert not path.is_symlink()
    assert other.read_bytes() == b"untouched"


def test_an_open_folder_stands_for_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        folder.rename(tmp_path / "moved")
        with files.replacing(folder / "archive", durable=True, folder=fd, named=".archive.1") as file:
            assert os.listdir(tmp_path / "moved") == [".archive.1"]
            file.write(b"whole")
        assert (tmp_path / "moved" / "archive").read_bytes() == b"whole"
        os.fstat(fd)  # still the caller's
    finally:
        os.close(fd)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    (path / "below").mkdir(parents=True)
    with pytest.raises(OSError, match="folder") as caught:
        files.replace(path, b"", durable=False)
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["folder"]


def test_a_full_disk_names_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "record"

    def write() -> None:
        with files.replacing(path, durable=False), open("/dev/full", "wb", buffering=0) as device:
            device.write(b"x")

    with pytest.raises(OSError, match="No space") as caught:
        write()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)


def test_a_trusted_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_bytes(b"content")
    assert files.read_trusted(path, 7, owners=MINE, check_folder=True) == b"content"


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_is_not(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "policy"
    path.write_bytes(b"content")
    path.chmod(mode)
    with pytest.raises(NotTrusted, match="policy") as caught:
        files.read_trusted(path, 100, owners=MINE)
    assert caught.value.reason == "can be written by others than root"
    assert caught.value.filename == str(path)


def test_the_group_may_be_trusted(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_bytes(b"content")
    path.chmod(0o620)
    assert files.read_trusted(path, 100, owners=MINE, group_may_write=True) == b"content"
    path.chmod(0o602)
    with pytest.raises(NotTrusted):
        files.read_trusted(path, 100, owners=MINE, group_may_write=True)


def test_another_owner_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_bytes(b"content")
    with pytest.raises(NotTrusted, match="others than root"):
        files.read_trusted(path, 100, owners=(os.geteuid() + 1,))


def test_a_folder_that_others_can_write_spoils_its_files(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_bytes(b"content")
    tmp_path.chmod(0o777)
    assert files.read_trusted(path, 100, owners=MINE) == b"content"
    with pytest.raises(NotTrusted) as caught:
        files.read_trusted(path, 100, owners=MINE, check_folder=True)
    assert caught.value.reason == f"its folder {tmp_path} can be written by others than root"


def test_links_are_followed_only_if_that_is_wanted(tmp_path: Path) -> None:
    path, real = tmp_path / "policy", tmp_path / "real"
    real.write_bytes(b"content")
    path.symlink_to(real)
    with pytest.raises(OSError, match="policy") as caught:
        files.read_trusted(path, 100, owners=MINE)
    assert caught.value.errno == errno.ELOOP
    assert files.read_trusted(path, 100, owners=MINE, follow_link=True) == b"content"


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    with pytest.raises(NotTrusted, match="is not a plain file"):
        files.read_trusted(path, 100, owners=MINE)
    with pytest.raises(OSError, match="is not a plain file"):
        files.read_plain(path, 100)
    with pytest.raises(OSError, match="is not a plain file"):
        files.read_plain(tmp_path, 100)


def test_the_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_bytes(bytes(101))
    with pytest.raises(NotTrusted, match="is larger than 100 bytes"):
        files.read_trusted(path, 100, owners=MINE)
    with pytest.raises(OSError, match="is larger than 100 bytes"):
        files.read_plain(path, 100)
    assert files.read_plain(path, 101) == bytes(101)


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read_trusted(tmp_path / "none", 100, owners=MINE)
    with pytest.raises(FileNotFoundError):
        files.read_plain(tmp_path / "none", 100)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_bytes(bytes(10))
    path.chmod(0o666)
    before = len(os.listdir("/proc/self/fd"))
    for limit in (1, 100):
        with pytest.raises(NotTrusted):
            files.read_trusted(path, limit, owners=MINE)
    with pytest.raises(OSError, match="larger"):
        files.read_plain(path, 1)
    with pytest.raises(OSError, match="plain"):
        files.open_plain(tmp_path)
    files.replace(path, b"x", durable=True)
    assert len(os.listdir("/proc/self/fd")) == before
