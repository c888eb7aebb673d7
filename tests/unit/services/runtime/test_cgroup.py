from __future__ import annotations

from pathlib import Path

import pytest

from services.runtime import cgroup, systemd
from services.runtime.cgroup import Cgroups, Hierarchies


def test_all_are_killed_at_once_only_where_there_is_nothing_but_v2(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    unified = Cgroups(Hierarchies(unified=tmp_path, v1={}))
    assert unified.kill_at_once("/a")
    assert (tmp_path / "a" / "cgroup.kill").read_text() == "1"
    assert not unified.kill_at_once("/gone")
    assert not Cgroups(Hierarchies(unified=tmp_path, v1={"memory": tmp_path})).kill_at_once("/a")


def test_a_monitor_of_the_systemd_driver_goes_into_a_scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []
    monkeypatch.setattr(systemd, "make_scope", lambda path, pid: made.append((path, pid)))
    groups = Cgroups(Hierarchies(unified=tmp_path, v1={}))
    groups.enter("/a.slice/x.scope", 7)
    assert made == [("/a.slice/x.scope", 7)]
    assert not list(tmp_path.iterdir())
    groups.enter("/a/x", 7)
    assert (tmp_path / "a/x/cgroup.procs").read_text() == "7"


def test_an_empty_slice_is_ended_by_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, root, stopped = tmp_path / "bus", tmp_path / "root", list[str]()
    bus.touch()
    monkeypatch.setattr(systemd, "BUS", bus)
    monkeypatch.setattr(systemd, "stop", stopped.append)
    groups = Cgroups(Hierarchies(unified=root, v1={}))
    (root / "a.slice" / "a-b.slice").mkdir(parents=True)
    assert not groups.remove_if_empty("/a.slice")
    assert groups.remove_if_empty("/a.slice/a-b.slice")
    assert stopped == ["a-b.slice"]
    assert groups.remove_if_empty("/a.slice")
    assert not (root / "a.slice").exists()


def test_the_driver_follows_the_configuration() -> None:
    assert cgroup.driver("systemd") == "systemd"
    assert cgroup.driver("cgroupfs") == "cgroupfs"
