"""The database: what is put is got, all or nothing, and no damage keeps it from opening."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from kernel.contracts.records import GONE_SECONDS, ContainerState, Exit, Gone, Intent, IntentKind
from kernel.contracts.supervisor import Commit, Snapshot
from kernel.errors import FailedPrecondition, Internal
from kernel.ids import ContainerId
from kernel.state.store import MIGRATIONS, Store
from tests.unit.kernel.state.test_intents import BOX, IMAGE, POD

INTENT = Intent(id=POD.id, kind=IntentKind.RUN_SANDBOX, begun_at=1)
FULL = Commit(put_sandboxes=(POD,), put_containers=(BOX,), put_images=(IMAGE,), begin=(INTENT,))
END = Exit(container_id=BOX.id, exit_code=3, finished_at=9, oom_killed=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


def filled(path: Path) -> None:
    store = Store.open(path)
    store.commit(FULL)
    assert store.record_exit(END)
    store.close()


def reopened(path: Path) -> Snapshot:
    store = Store.open(path)
    try:
        return store.load()
    finally:
        store.close()


def test_what_is_put_is_got(path: Path) -> None:
    filled(path)
    expected = Snapshot(sandboxes=(POD,), containers=(BOX,), images=(IMAGE,), intents=(INTENT,), exits=(END,))
    assert reopened(path) == expected
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_put_replaces_and_a_delete_of_nothing_is_no_error(path: Path) -> None:
    filled(path)
    store = Store.open(path)
    running = replace(BOX, state=ContainerState.RUNNING)
    store.commit(Commit(put_containers=(running,), end=(INTENT.id, "nothing"), delete_images=(IMAGE.id,)))
    found = store.load()
    assert (found.containers, found.intents, found.images) == ((running,), (), ())
    store.commit(Commit(delete_containers=(BOX.id,), delete_sandboxes=(POD.id,)))
    assert replace(store.load(), gone=()) == Snapshot(sandboxes=(), containers=(), images=(), intents=(), exits=())
    store.close()


def test_what_is_deleted_is_remembered_for_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10**18
    monkeypatch.setattr(time, "time_ns", lambda: now)
    filled(path)
    store = Store.open(path)
    assert store.load().gone == ()
    store.commit(Commit(delete_containers=(BOX.id, ContainerId("f" * 64)), delete_sandboxes=(POD.id,)))
    assert store.load().gone == (Gone(at=now, container=BOX), Gone(at=now, sandbox=POD))
    now += (GONE_SECONDS + 1) * 10**9
    assert store.load().gone == ()
    store.commit(Commit(put_containers=(BOX,), delete_sandboxes=(POD.id,)))
    store.close()
    other = sqlite3.connect(path)
    assert other.execute("SELECT count(*) FROM gone").fetchone() == (0,)
    other.execute("INSERT INTO gone VALUES (NULL, 'container', 'x', 3, ?)", (now,))
    other.commit()
    other.close()
    assert reopened(path).gone == ()  # what is damaged is no news
    assert reopened(path).damaged == ""


def test_an_exit_is_kept_once_and_only_for_a_container_with_a_record(path: Path) -> None:
    filled(path)
    store = Store.open(path)
    assert not store.record_exit(replace(END, exit_code=4))
    assert not store.record_exit(replace(END, container_id="f" * 64))
    assert store.load().exits == (END,)
    assert [container.id for container in store.load().containers] == [BOX.id]
    store.close()


def test_a_commit_is_on_disk_without_a_close(path: Path) -> None:
    store = Store.open(path)
    store.commit(FULL)
    other = sqlite3.connect(path)
    assert other.execute("SELECT count(*) FROM records").fetchone() == (4,)
    other.close()
    store.close()


def test_a_commit_takes_less_than_a_millisecond(path: Path) -> None:
    store = Store.open(path)
    took = []
    for number in range(50):
        begun = time.perf_counter()
        store.commit(Commit(put_containers=(replace(BOX, attempt=number),), begin=(INTENT,)))
        took.append(time.perf_counter() - begun)
    store.close()
    assert sorted(took)[len(took) // 2] < 0.001


@pytest.mark.parametrize(
    "damage",
    [b"", b"garbage" * 500, b"\0" * 8192],
    ids=["empty", "garbage", "zeros"],
)
def test_a_damaged_file_is_set_aside(path: Path, damage: bytes) -> None:
    filled(path)
    path.write_bytes(damage)
    found = reopened(path)
    assert found.sandboxes == ()
    (aside,) = path.parent.glob("state.db.damaged-*")
    assert aside.name in found.damaged
    assert aside.read_bytes() == damage
    assert not reopened(path).damaged  # the new one is whole


@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_something_else_in_its_place_is_set_aside(path: Path, kind: str) -> None:
    path.parent.mkdir()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/etc/passwd")
    assert "not a regular file" in reopened(path).damaged


def test_a_file_truncated_anywhere_opens(path: Path, tmp_path: Path) -> None:
    filled(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 509):
        cut = tmp_path / f"cut{length}" / "state.db"
        cut.parent.mkdir()
        cut.write_bytes(whole[:length])
        found = reopened(cut)
        assert found.damaged or found.exits == (END,)  # the last page may have been empty


def test_a_record_with_a_flipped_bit_costs_only_itself(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE records SET record = replace(record, 'creating', 'creatinG') WHERE kind = 'sandbox'")
    raw.close()
    found = reopened(path)
    assert (found.sandboxes, found.containers) == ((), (BOX,))
    assert POD.id in found.damaged
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT kind, id FROM set_aside").fetchall() == [("sandbox", POD.id)]
    raw.close()


def test_a_record_under_another_id_is_set_aside(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE records SET id = ? WHERE kind = 'container'", ("e" * 64,))
    raw.close()
    found = reopened(path)
    assert found.containers == ()
    assert found.damaged


def test_an_older_schema_is_brought_up(path: Path) -> None:
    filled(path)
    newer = (*MIGRATIONS, "CREATE TABLE more (x)")
    store = Store.open(path, newer)
    assert store.load().sandboxes == (POD,)
    store.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (len(newer),)
        assert raw.execute("SELECT count(*) FROM more").fetchone() == (0,)
    raw.close()


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    filled(path)
    with pytest.raises(Internal):
        Store.open(path, (*MIGRATIONS, "CREATE TABLE more (x); CREATE TABLE records (x)"))
    assert reopened(path).sandboxes == (POD,)


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    Store.open(path, (*MIGRATIONS, "CREATE TABLE more (x)")).close()
    with pytest.raises(FailedPrecondition, match="newer crisp"):
        Store.open(path)
    assert list(path.parent.glob("*.damaged-*")) == []


def copied(path: Path) -> None:
    store = Store.open(path)
    assert store.copy()
    assert not store.copy()  # nothing is new
    store.close()


@pytest.mark.parametrize("damage", [b"", b"garbage" * 500, None], ids=["empty", "garbage", "gone"])
def test_a_damaged_file_is_made_anew_from_its_copy(path: Path, damage: bytes | None) -> None:
    filled(path)
    copied(path)
    before = reopened(path)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    found = reopened(path)
    assert "its records are those of 2" in found.damaged
    assert replace(found, damaged="") == before
    assert reopened(path) == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("copy", [b"", b"garbage" * 500], ids=["empty", "garbage"])
def test_a_copy_that_is_damaged_too_is_of_no_use_and_no_harm(path: Path, copy: bytes) -> None:
    filled(path)
    path.write_bytes(b"garbage" * 500)
    Path(f"{path}.copy").write_bytes(copy)
    found = reopened(path)
    assert found.sandboxes == ()
    assert "those of" not in found.damaged


def test_a_copy_elsewhere_is_not_followed(path: Path, tmp_path: Path) -> None:
    filled(tmp_path / "other" / "state.db")
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 500)
    Path(f"{path}.copy").symlink_to(tmp_path / "other" / "state.db")
    assert reopened(path).sandboxes == ()


def test_a_damaged_record_is_taken_from_the_copy(path: Path) -> None:
    filled(path)
    copied(path)
    before = reopened(path)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE records SET record = replace(record, 'creating', 'creatinG') WHERE kind = 'sandbox'")
    raw.close()
    found = reopened(path)
    assert replace(found, damaged="") == before
    assert f"{POD.id} was damaged" in found.damaged
    assert "an older copy is used" in found.damaged
    assert reopened(path) == before


def test_what_changes_is_copied_again(path: Path) -> None:
    store = Store.open(path)
    assert store.copy()
    store.commit(Commit(put_sandboxes=(POD,)))
    assert store.copy()
    store.close()
    path.unlink()
    assert reopened(path).sandboxes == (POD,)
