"""A record before and after a commit, from which the subscribers of events are informed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernel.contracts.records import Container, Sandbox
from kernel.contracts.supervisor import Commit
from kernel.ids import ContainerId, SandboxId


@dataclass(frozen=True, slots=True)
class SandboxChange:
    """The change of a sandbox's record."""

    before: Sandbox | None
    """None if the commit makes the record."""
    after: Sandbox | None
    """None if the commit deletes the record."""


@dataclass(frozen=True, slots=True)
class ContainerChange:
    """The change of a container's record."""

    before: Container | None
    """None if the commit makes the record."""
    after: Container | None
    """None if the commit deletes the record."""


Change = SandboxChange | ContainerChange


def changes_of(
    commit: Commit, sandboxes: Mapping[SandboxId, Sandbox], containers: Mapping[ContainerId, Container]
) -> tuple[Change, ...]:
    """Return the changes that a commit makes to these records, those of containers before those of sandboxes."""
    return (
        *(ContainerChange(containers.get(one.id), one) for one in commit.put_containers),
        *(ContainerChange(one, None) for id_ in commit.delete_containers if (one := containers.get(id_))),
        *(SandboxChange(sandboxes.get(one.id), one) for one in commit.put_sandboxes),
        *(SandboxChange(pod, None) for id_ in commit.delete_sandboxes if (pod := sandboxes.get(id_))),
    )
