from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.errors import DeadlineExceeded, Internal
from services.runtime.cgroups import dbus, systemd
from tests.unit.services.runtime.cgroups.test_dbus import message, text

JOB = "/org/freedesktop/systemd1/job/9"


class Bus:
    """Plays dbus-daemon with systemd behind it: `answers` to the calls of units, one a connection."""

    def __init__(self, path: Path) -> None:
        self.answers: list[list[bytes]] = []
        self.calls: list[tuple[str, str]] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                end, _ = self._listening.accept()
            except OSError:
                return
            with end, end.makefile("rb") as file:
                assert file.readline() == b"\0AUTH EXTERNAL 30\r\n"
                assert file.readline() == b"BEGIN\r\n"
                end.sendall(b"OK 0123\r\n")
                for _ in range(4):
                    fixed = file.read(dbus.FIXED)
                    called = dbus.parse(fixed + file.read(dbus.size(fixed) - dbus.FIXED))
                self.calls.append((called.member, called.words()[0]))
                end.sendall(b"".join(self.answers.pop(0)))
                end.shutdown(socket.SHUT_WR)
                file.read()


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    monkeypatch.setattr(systemd, "BUS", tmp_path / "bus")
    made = Bus(tmp_path / "bus")
    yield made
    made.close()


def queued() -> bytes:
    return message(dbus.REPLY, [(5, "u", 4), (8, "g", "o")], text(JOB))


def ended(result: str = "done", job: str = JOB) -> bytes:
    body = b""
    for part in (struct.pack("<I", 9), text(job), text("x.slice"), text(result)):
        body += bytes(-len(body) % 4) + part
    return message(dbus.SIGNAL, [(3, "s", "JobRemoved"), (8, "g", "uoss")], body)


def refused(error: str) -> bytes:
    fields: list[tuple[int, str, str | int]] = [(4, "s", f"org.freedesktop.systemd1.{error}"), (5, "u", 4)]
    return message(dbus.ERROR, [*fields, (8, "g", "s")], text("said so"))


def test_the_job_counts_whenever_it_ends(bus: Bus) -> None:
    hello = message(dbus.REPLY, [(5, "u", 1), (8, "g", "s")], text(":1.7"))
    bus.answers = [[hello, queued(), ended(job="/other"), ended()], [ended(), queued()]]
    systemd.make_slice("x.slice")
    systemd.stop("x.slice")
    assert bus.calls == [("StartTransientUnit", "x.slice"), ("StopUnit", "x.slice")]


def test_there_already_and_gone_already_are_success(bus: Bus) -> None:
    bus.answers = [[refused("UnitExists")], [refused("NoSuchUnit")]]
    systemd.make_slice("x.slice")
    systemd.stop("x.slice")


def test_a_scope_of_an_earlier_attempt_gives_way(bus: Bus) -> None:
    bus.answers = [[refused("UnitExists")], [queued(), ended()], [queued(), ended()]]
    systemd.make_scope("/a.slice/a-b.slice/x.scope", 7)
    assert [member for member, _ in bus.calls] == ["StartTransientUnit", "StopUnit", "StartTransientUnit"]
    assert {unit for _, unit in bus.calls} == {"x.scope"}


def test_other_refusals_and_failed_jobs_are_told(bus: Bus) -> None:
    bus.answers = [[refused("LoadFailed")], [queued(), ended("timeout")], [queued()]]
    with pytest.raises(Internal, match=r"StartTransientUnit x\.slice: said so"):
        systemd.make_slice("x.slice")
    with pytest.raises(Internal, match="ended as timeout"):
        systemd.stop("x.slice")
    with pytest.raises(Internal, match="closed"):
        systemd.stop("x.slice")


def test_a_bus_that_is_silent_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "BUS", tmp_path / "none")
    with pytest.raises(Internal, match="cannot be reached"):
        systemd.stop("x.slice")
    monkeypatch.setattr(systemd, "BUS", tmp_path / "silent")
    monkeypatch.setattr(systemd, "_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        with pytest.raises(DeadlineExceeded, match="does not answer"):
            systemd.stop("x.slice")
