"""The state on disk: records in SQLite, in one file that only the supervisor writes. The only module with sqlite3.

Rules:
- Every record is JSON of its class in `kernel.contracts.records`, with a checksum. A record that cannot be
  read is moved to the table `set_aside` and the rest is served: one damaged object does not cost the others.
- A file that is no database any more is renamed, never deleted, and a new one begun, with the records of the last copy.
  Either way the reason is in the snapshot (`damaged`), so that missing records do not count as removed ones.
- The copy lies beside the file, is made regularly (`copy`), and is read if the file or a record of it is damaged:
  records in it that are older than the host's state are corrected as after any crash.
- WAL with synchronous=NORMAL: a commit survives even if all processes die at once, and is never partial; a power
  loss may undo the last few commits, whose changes start-up finds again on the host.
- A file of a newer crisp is not touched: the daemon does not start.
- A database is made under another name and renamed when it is whole: an empty file is a damaged one.

Not thread-safe: its owner calls it from one thread.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from kernel.contracts.records import GONE_SECONDS, Container, Exit, Gone, Image, Intent, Sandbox
from kernel.contracts.supervisor import Commit, Snapshot
from kernel.errors import CrispError, FailedPrecondition, Internal, ResourceExhausted
from kernel.host import files

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE records (
        kind TEXT NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (kind, id)
    ) WITHOUT ROWID;
    CREATE TABLE set_aside (kind, id, record, why TEXT NOT NULL, at INTEGER NOT NULL);
    """,
    """
    CREATE TABLE gone (
        number INTEGER PRIMARY KEY, kind TEXT NOT NULL, record BLOB NOT NULL, sum INTEGER NOT NULL, at INTEGER NOT NULL
    );
    """,
)
"""SQL that changes the schema from the version of its index to the next one; a released script never changes."""

Record = Sandbox | Container | Image | Intent | Exit
_R = TypeVar("_R", Sandbox, Container, Image, Intent, Exit)
_KINDS: dict[type[Record], str] = {
    Sandbox: "sandbox", Container: "container", Image: "image", Intent: "intent", Exit: "exit",
}  # fmt: skip
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FULL = (sqlite3.SQLITE_FULL,)
_LOCK_WAIT = 5.0


class Store:
    """An open database."""

    def __init__(self, path: Path, connection: sqlite3.Connection, damaged: str) -> None:
        self._path = path
        self._connection = connection
        self._damage = [damaged] if damaged else []
        self._changed = True
        """Whether the database has changed since the last copy."""

    @classmethod
    def open(cls, path: Path, migrations: Sequence[str] = MIGRATIONS) -> Store:
        """Open the database at `path`, or make or rebuild it."""
        damaged = ""
        why = _file_damage(path)
        if not why and path.exists():
            try:
                return cls(path, _opened(path, migrations), damaged)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise _translated(error, path) from error
                why = str(error)
        if not why and os.path.lexists(_copy_of(path)):
            damaged = f"the state in {path} is missing"
        elif why:
            damaged = f"the state in {path} was damaged ({why}) and is kept as {_set_file_aside(path).name}"
        try:
            if damaged and (made := _take_copy(path, migrations)):
                damaged = f"{damaged}; its records are those of {made}"
            else:
                _make(path, migrations)
            return cls(path, _opened(path, migrations), damaged)
        except sqlite3.DatabaseError as error:
            raise _translated(error, path) from error

    def load(self) -> Snapshot:
        """Return every record that reads back."""
        try:
            snapshot = Snapshot(
                sandboxes=self._read(Sandbox),
                containers=self._read(Container),
                images=self._read(Image),
                intents=self._read(Intent),
                exits=self._read(Exit),
                gone=tuple(self._gone()),
            )
        except sqlite3.DatabaseError as error:
            raise _translated(error, self._path) from error
        return msgspec.structs.replace(snapshot, damaged="; ".join(self._damage))

    def commit(self, commit: Commit) -> None:
        """Apply one transaction: all of it or nothing."""
        gone: list[tuple[type[Record], Iterable[str]]] = [
            (Sandbox, commit.delete_sandboxes),
            (Container, commit.delete_containers),
            (Exit, commit.delete_containers),
            (Image, commit.delete_images),
            (Intent, commit.end),
        ]
        put: list[Record] = [*commit.put_sandboxes, *commit.put_containers, *commit.put_images, *commit.begin]
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                if commit.delete_containers or commit.delete_sandboxes:
                    self._bury(commit)
                for kind, ids in gone:
                    rows = [(_KINDS[kind], id_) for id_ in ids]
                    self._connection.executemany("DELETE FROM records WHERE kind = ? AND id = ?", rows)
                self._connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", map(_row, put))
            self._changed = True
        except sqlite3.DatabaseError as error:
            raise _translated(error, self._path) from error

    def record_exit(self, exit_: Exit) -> bool:
        """Record a container's end, unless it has one or has no record. Return whether it was new."""
        kind, id_, record, checksum = _row(exit_)
        try:
            with self._connection:
                done = self._connection.execute(
                    "INSERT OR IGNORE INTO records SELECT ?, ?, ?, ? WHERE EXISTS"
                    " (SELECT 1 FROM records WHERE kind = 'container' AND id = ?)",
                    (kind, id_, record, checksum, id_),
                )
                self._changed = True
                return done.rowcount > 0
        except sqlite3.DatabaseError as error:
            raise _translated(error, self._path) from error

    def copy(self) -> bool:
        """Copy the database, if it has changed since the last copy. Return whether it had changed."""
        if not self._changed:
            return False
        copied = _copy_of(self._path)
        fresh = copied.with_name(f"{copied.name}.new")
        fresh.unlink(missing_ok=True)
        try:
            self._connection.execute("VACUUM INTO ?", (str(fresh),))
        except sqlite3.DatabaseError as error:
            fresh.unlink(missing_ok=True)
            raise _translated(error, self._path) from error
        fresh.chmod(0o600)
        # Not synced: that could hold up commits for seconds on a busy disk. A crash of the machine may spoil the copy,
        # but not the database as well, and a spoilt copy is found when it is read.
        files.put_in_place(fresh, copied, durable=False)
        self._changed = False
        return True

    def close(self) -> None:
        """Write the log into the file and close it."""
        self._connection.close()

    def _bury(self, commit: Commit) -> None:
        """Keep records that are about to be deleted for GONE_SECONDS, and drop those whose time is over."""
        now = time.time_ns()
        self._connection.execute("DELETE FROM gone WHERE abs(? - at) > ?", (now, GONE_SECONDS * 10**9))
        rows: list[tuple[str, str]] = [("container", id_) for id_ in commit.delete_containers]
        rows += [("sandbox", id_) for id_ in commit.delete_sandboxes]
        self._connection.executemany(
            "INSERT INTO gone SELECT NULL, kind, record, sum, ? FROM records WHERE kind = ? AND id = ?",
            [(now, *row) for row in rows],
        )

    def _gone(self) -> Iterator[Gone]:
        """Yield records that were deleted in the last GONE_SECONDS. Unreadable ones are left out, because clients only
        miss an event."""
        rows = self._connection.execute(
            "SELECT kind, record, sum, at FROM gone WHERE abs(? - at) <= ? ORDER BY number",
            (time.time_ns(), GONE_SECONDS * 10**9),
        ).fetchall()
        for kind, record, checksum, at in rows:
            with suppress(msgspec.DecodeError, TypeError):
                if zlib.crc32(record) == checksum and kind == "sandbox":
                    yield Gone(at=at, sandbox=msgspec.json.decode(record, type=Sandbox))
                elif zlib.crc32(record) == checksum:
                    yield Gone(at=at, container=msgspec.json.decode(record, type=Container))

    def _read(self, kind: type[_R]) -> tuple[_R, ...]:
        decoder = msgspec.json.Decoder(kind)
        good: list[_R] = []
        bad: list[tuple[str, str]] = []
        rows = self._connection.execute(
            "SELECT id, record, sum FROM records WHERE kind = ? ORDER BY id", (_KINDS[kind],)
        ).fetchall()
        for id_, data, checksum in rows:
            try:
                record = decoder.decode(data)
                why = "" if zlib.crc32(data) == checksum and _id(record) == id_ else "its checksum differs"
            except (msgspec.DecodeError, TypeError, CrispError) as error:
                why = str(error)
            else:
                if not why:
                    good.append(record)
            if why:
                bad.append((str(id_), why))
        if bad:
            good += self._set_aside(kind, bad)
        return tuple(good)

    def _set_aside(self, kind: type[_R], bad: Sequence[tuple[str, str]]) -> list[_R]:
        """Move damaged records aside, and return those of the copy, which replace them."""
        copied = {_id(record): record for record in _copied(self._path, kind)}
        taken = [copied[id_] for id_, _ in bad if id_ in copied]
        with self._connection:
            for id_, why in bad:
                self._connection.execute(
                    "INSERT INTO set_aside SELECT kind, id, record, ?, ? FROM records WHERE kind = ? AND id = ?",
                    (why, time.time_ns(), _KINDS[kind], id_),
                )
                self._connection.execute("DELETE FROM records WHERE kind = ? AND id = ?", (_KINDS[kind], id_))
            self._connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", map(_row, taken))
        for id_, why in bad:
            instead = "; an older copy is used" if id_ in copied else ""
            self._damage.append(f"the record of {_KINDS[kind]} {id_} was damaged ({why}) and is set aside{instead}")
        return taken


def _row(record: Record) -> tuple[str, str, bytes, int]:
    data = msgspec.json.encode(record)
    return _KINDS[type(record)], _id(record), data, zlib.crc32(data)


def _id(record: Record) -> str:
    return record.container_id if isinstance(record, Exit) else record.id


def _file_damage(path: Path) -> str:
    """Return why the file cannot be a database of crisp; empty if it may be one, or does not exist."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return ""
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    return "" if found.st_size else "it is empty"


def _opened(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_LOCK_WAIT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            damage = sqlite3.DatabaseError(verdict)
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
        _migrate(path, connection, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def _copy_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.copy")


def _take_copy(path: Path, migrations: Sequence[str]) -> str:
    """Begin again with the records of the copy. Return when it was made; empty if there is no good copy."""
    copied = _copy_of(path)
    fresh = path.with_name(f"{path.name}.new")
    try:
        found = copied.lstat()
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return ""
        shutil.copyfile(copied, fresh, follow_symlinks=False)
        _opened(fresh, migrations).close()
    except (OSError, sqlite3.DatabaseError):  # the copy is as lost as the file
        return ""
    fresh.chmod(0o600)
    files.put_in_place(fresh, path, durable=True)
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(found.st_mtime))


def _copied(path: Path, kind: type[_R]) -> Iterator[_R]:
    """Yield the good records of the copy; none if it cannot be read."""
    with (
        suppress(sqlite3.DatabaseError),
        closing(sqlite3.connect(f"{_copy_of(path).as_uri()}?mode=ro", uri=True)) as copy,
    ):
        for id_, data, checksum in copy.execute("SELECT id, record, sum FROM records WHERE kind = ?", (_KINDS[kind],)):
            with suppress(msgspec.DecodeError, TypeError, CrispError):
                record = msgspec.json.decode(data, type=kind)
                if zlib.crc32(data) == checksum and _id(record) == id_:
                    yield record


def _make(path: Path, migrations: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{fresh}{suffix}").unlink(missing_ok=True)
    _opened(fresh, migrations).close()
    fresh.chmod(0o600)
    files.put_in_place(fresh, path, durable=True)


def _migrate(path: Path, connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise FailedPrecondition(
            f"the state in {path} has version {version}, which a newer crisp wrote; this one knows {len(migrations)}",
            hint="start the newer crisp again, or move the file away",
        )
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.DatabaseError:
            with suppress(sqlite3.DatabaseError):  # there may be no transaction left; the first error counts
                connection.execute("ROLLBACK")
            raise


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _DAMAGED  # the rest of an extended code refines the error


def _set_file_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}.{number}")
    for suffix in ("-wal", "-shm", ""):  # the log first: SQLite would apply it to the new file
        with suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def _translated(error: sqlite3.DatabaseError, path: Path) -> CrispError:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _FULL:
        return ResourceExhausted(f"the state in {path} cannot be written: {error}", hint="make room on its disk")
    return Internal(f"the state in {path} cannot be used: {error}")
