from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.runtime.cgroups import systemd
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.cgroups.hierarchies import Hierarchies


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


def count(folder: Path, kills: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.events").write_text(f"low 0\nhigh 3\nmax 9\noom {kills}\noom_kill {kills}\noom_group_kill 0\n")


def test_kills_of_a_cgroup_that_is_gone_are_still_counted_above_it(tmp_path: Path) -> None:
    groups = Cgroups(Hierarchies(unified=tmp_path, v1={}))
    count(tmp_path / "pod", 3)
    count(tmp_path / "pod" / "a", 1)
    (tmp_path / "pod" / "starting").mkdir()
    assert groups.oom_kills("/pod/a") == 1
    assert groups.oom_kills("/pod/gone") is None
    assert groups.lost_oom_kills("/pod") == 2
    assert groups.lost_oom_kills("/gone") == 0
    assert Cgroups(Hierarchies(unified=tmp_path, v1={"memory": tmp_path})).lost_oom_kills("/pod") == 0


def test_where_a_process_is_inside_a_cgroup_is_asked_of_v2_alone(tmp_path: Path) -> None:
    groups = Cgroups(Hierarchies(unified=tmp_path, v1={}))
    assert groups.inner("/elsewhere", os.getpid()) == ""
    assert groups.inner("/elsewhere", 2**22 + 1) == ""
    assert Cgroups(Hierarchies(unified=tmp_path, v1={"memory": tmp_path})).inner("", os.getpid()) == ""


def test_controllers_are_handed_down_where_there_is_v2_alone(tmp_path: Path) -> None:
    inner = tmp_path / "crisp" / "pod"
    inner.mkdir(parents=True)
    for folder in (tmp_path, inner.parent, inner):
        (folder / "cgroup.controllers").write_text("cpu memory\n")
    Cgroups(Hierarchies(unified=tmp_path, v1={"memory": tmp_path})).delegate("/crisp/pod")
    assert not (tmp_path / "cgroup.subtree_control").exists()
    Cgroups(Hierarchies(unified=tmp_path, v1={})).delegate("/crisp/pod")
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    assert (inner.parent / "cgroup.subtree_control").read_text() == "+memory"
    assert not (inner / "cgroup.subtree_control").exists()
