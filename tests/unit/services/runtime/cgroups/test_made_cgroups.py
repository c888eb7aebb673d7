from __future__ import annotations

from pathlib import Path

from services.runtime.cgroups.cgroup_path import PodCgroup
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.cgroups.made_cgroups import MadeCgroups


def test_only_what_was_made_here_is_removed_and_only_with_its_last_user(tmp_path: Path) -> None:
    root, state = tmp_path / "cgroup", tmp_path / "state"
    state.mkdir()
    (root / "there").mkdir(parents=True)
    groups = Cgroups(Hierarchies(unified=root, v1={"memory": root}))
    MadeCgroups(state, groups).make(PodCgroup(driver="cgroupfs", name="/there/a/one"))
    again = MadeCgroups(state, groups)  # as after a restart
    again.make(PodCgroup(driver="cgroupfs", name="/there/a/two"))
    again.remove("/there/a/one")
    assert [path.name for path in (root / "there").rglob("*")] == ["a", "two"]
    again.remove("/there/a/two")
    assert list((root / "there").iterdir()) == []
    again.enter(PodCgroup(driver="cgroupfs", name="/mine/x"), "/mine/x/m", 7)
    assert (root / "mine/x/m/cgroup.procs").read_text() == "7"
    (root / "mine/x/m/cgroup.procs").unlink()
    (root / "mine/x/m").rmdir()
    again.remove("/mine/x")
    assert not (root / "mine").exists()


def test_what_bears_the_pods_id_is_its_own_without_a_note(tmp_path: Path) -> None:
    root, state, own = tmp_path / "cgroup", tmp_path / "state", "a" * 64
    state.mkdir()
    groups = Cgroups(Hierarchies(unified=root, v1={"memory": root}))
    made = MadeCgroups(state, groups)
    made.make(PodCgroup(driver="cgroupfs", name=f"/crisp/{own}"), own)
    assert (state / "cgroups.json").read_text() == '["/crisp"]'
    made.remove(f"/crisp/{own}", "b" * 64)
    assert (root / "crisp" / own).exists()
    MadeCgroups(state, groups).remove(f"/crisp/{own}", own)
    assert not (root / "crisp").exists()
    assert (state / "cgroups.json").read_text() == "[]"
