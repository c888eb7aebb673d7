"""The changes that a commit makes."""

from __future__ import annotations

from msgspec.structs import replace

from kernel.contracts.records import ContainerState
from kernel.contracts.supervisor import Commit
from kernel.front.memory.record_changes import ContainerChange, SandboxChange, changes_of
from kernel.ids import ContainerId
from tests.unit.kernel.front.memory.test_replica import ONE, POD


def test_each_record_that_a_commit_puts_or_deletes() -> None:
    ended = replace(ONE, state=ContainerState.EXITED)
    new = replace(ONE, id=ContainerId("ef" * 32))
    commit = Commit(put_sandboxes=(POD,), put_containers=(ended, new))
    assert changes_of(commit, {}, {ONE.id: ONE}) == (
        ContainerChange(ONE, ended),
        ContainerChange(None, new),
        SandboxChange(None, POD),
    )


def test_containers_are_deleted_before_their_sandbox_and_what_is_gone_changes_nothing() -> None:
    commit = Commit(delete_sandboxes=(POD.id,), delete_containers=(ONE.id, ContainerId("ef" * 32)))
    assert changes_of(commit, {POD.id: POD}, {ONE.id: ONE}) == (ContainerChange(ONE, None), SandboxChange(POD, None))
