"""Which containers can be restored, and which were being restored when a worker died."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kernel.errors import InvalidInput
from kernel.host.pidfd import Identity
from services.runtime.checkpoints import restore
from services.runtime.records.bundle import ContainerState
from tests.unit.services.runtime.checkpoints.test_checkpoint_archive import REQUEST, SANDBOX, SPEC

STATE = ContainerState(
    phase="starting", sandbox_id=SANDBOX, handler="runc", cgroup="/a", conmon_cgroup="/b", restores=True
)  # fmt: skip


def test_the_processes_mounts_must_be_there() -> None:
    restore.check_mounts(replace(REQUEST, restored_mounts=("/data", "/file")), SPEC)
    with pytest.raises(InvalidInput, match=r"mounts: .*: /more, /other"):
        restore.check_mounts(replace(REQUEST, restored_mounts=("/data", "/more", "/other")), SPEC)


def test_the_node_s_settings_for_criu_stay() -> None:
    assert restore.criu_settings("", "/a/crisp-b") == "cgroup-root /a/crisp-b\n"
    assert restore.criu_settings("tcp-close\n\n", "/c") == "tcp-close\ncgroup-root /c\n"


def test_a_restore_that_was_cut_off_is_told_from_a_start() -> None:
    assert restore.was_cut_off(STATE)
    assert not restore.was_cut_off(replace(STATE, restores=False))
    assert not restore.was_cut_off(replace(STATE, phase="created"))
    assert not restore.was_cut_off(replace(STATE, process=Identity(pid=1, start=1, boot="x")))
