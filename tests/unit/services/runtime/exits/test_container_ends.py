from __future__ import annotations

from pathlib import Path

from kernel.host.aio import Tasks
from kernel.ids import ContainerId, SandboxId
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.exits.container_ends import ContainerEnds
from services.runtime.records.bundle import ContainerBundle, ContainerState
from services.runtime.records.container import Container
from services.runtime.records.watchers import Watchers
from tests.unit.services.runtime.cgroups.test_cgroup_tree import count

POD = "/p.slice"


async def _ignore(_: Container) -> None:
    return None


class Node:
    """A host on which systemd removes scopes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        count(root / "p.slice", 0)
        self.cgroups = Cgroups(Hierarchies(unified=root, v1={}))
        self.ends = ContainerEnds(Tasks(), self.cgroups, Watchers())

    def container(self, letter: str) -> Container:
        bundle = ContainerBundle(self.root / "state", ContainerId(letter * 64))
        bundle.path.mkdir(parents=True)
        state = ContainerState(
            phase="started", sandbox_id=SandboxId("f" * 64), handler="runc", cgroup=f"{POD}/{letter}.scope",
            conmon_cgroup="", oom_kills_before=self.cgroups.lost_oom_kills(POD),
        )  # fmt: skip
        return Container(ContainerId(letter * 64), bundle, state)

    def end(self, container: Container) -> bool:
        self.ends.follow(container, _ignore)
        return container.oom_killed


async def test_a_kill_counts_for_the_container_that_is_gone_and_for_no_other(tmp_path: Path) -> None:
    node = Node(tmp_path)
    before, victim, later = (node.container(letter) for letter in "abc")
    assert not node.end(before)
    count(tmp_path / "p.slice", 2)
    assert node.end(victim)
    assert not node.end(later)
    assert not node.end(node.container("d"))
    assert node.container("e").state.oom_kills_before == 2


async def test_a_scope_that_is_still_there_is_counted_once(tmp_path: Path) -> None:
    node = Node(tmp_path)
    victim, later = node.container("a"), node.container("b")
    count(tmp_path / "p.slice", 1)
    count(tmp_path / "p.slice" / "a.scope", 1)
    assert node.end(victim)
    (tmp_path / "p.slice" / "a.scope" / "memory.events").unlink()
    (tmp_path / "p.slice" / "a.scope").rmdir()
    assert not node.end(later)


async def test_it_is_remembered_across_restarts_of_the_worker(tmp_path: Path) -> None:
    node = Node(tmp_path)
    victim, later = node.container("a"), node.container("b")
    count(tmp_path / "p.slice", 1)
    assert node.end(victim)
    again = ContainerEnds(Tasks(), node.cgroups, Watchers())
    recovered = Container(victim.id, victim.bundle, victim.state)
    again.follow(recovered, _ignore)
    assert recovered.oom_killed
    again.follow(later, _ignore)
    assert not later.oom_killed
