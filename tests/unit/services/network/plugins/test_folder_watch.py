"""Changes in folders are told, also where the folder is not there yet."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel.host import syscalls
from services.network.plugins import folder_watch
from services.network.plugins.folder_watch import FolderWatch


class Told:
    """Counts calls, and lets them be awaited."""

    def __init__(self) -> None:
        self._calls: asyncio.Queue[None] = asyncio.Queue()

    def __call__(self) -> None:
        self._calls.put_nowait(None)

    async def next(self) -> None:
        """Once more; further calls for the same change are dropped."""
        await asyncio.wait_for(self._calls.get(), 5)


@contextmanager
def watching(*folders: Path) -> Iterator[Told]:
    told = Told()
    watch = FolderWatch(folders, told)
    try:
        yield told
    finally:
        watch.close()


async def test_it_looks_once_at_the_start_and_after_each_change(tmp_path: Path) -> None:
    with watching(tmp_path) as told:
        await told.next()
        (tmp_path / "a").write_text("1")
        await told.next()
        (tmp_path / "a").write_text("2")
        await told.next()
        (tmp_path / "a").chmod(0o600)
        await told.next()
        (tmp_path / "a").unlink()
        await told.next()


async def test_a_folder_may_come_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "x" / "y"
    with watching(folder, tmp_path / "z") as told:
        await told.next()
        for _ in range(2):
            folder.parent.mkdir()
            await told.next()
            folder.mkdir()
            await told.next()
            (folder / "a").touch()
            await told.next()
            (folder / "a").unlink()
            await told.next()
            folder.rmdir()
            await told.next()
            folder.parent.rmdir()
            await told.next()


async def test_without_inotify_folders_are_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(syscalls, "inotify_init", refuse)
    monkeypatch.setattr(folder_watch, "_RETRY", 0.01)
    with watching(tmp_path) as told:
        await told.next()
        await told.next()
        monkeypatch.undo()
        await told.next()
        (tmp_path / "a").touch()
        await told.next()


async def test_a_file_system_that_tells_nothing_is_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_watch, "_POLL", 0.01)
    with watching(tmp_path) as told:
        for _ in range(3):
            await told.next()
