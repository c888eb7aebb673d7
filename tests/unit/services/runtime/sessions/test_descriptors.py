from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from kernel.contracts.stream import Role
from services.runtime.sessions.descriptors import Descriptors


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives pipes to other users")
def test_a_pipe_has_one_end_for_the_command_and_one_for_the_stream_process() -> None:
    with ExitStack() as opened:
        ends = Descriptors(opened, (33, 44))
        ends.add_status()
        ends.add_pipe(Role.STDIN)
        ends.add_pipe(Role.STDOUT)
        ends.add_nothing()
        assert ends.roles == [Role.STATUS, Role.STDIN, Role.STDOUT]
        assert (len(ends.command), len(ends.stream)) == (4, 3)
        status = os.fstat(ends.command[1])
        assert (status.st_uid, status.st_gid) == (33, 44)
        os.write(ends.stream[1], b"in")
        assert os.read(ends.command[1], 8) == b"in"
        os.write(ends.command[2], b"out")
        assert os.read(ends.stream[2], 8) == b"out"
        assert os.path.samestat(os.fstat(ends.command[3]), os.stat("/dev/null"))
        assert not any(map(os.get_inheritable, (*ends.command, *ends.stream)))
        ends.close_given()
        assert not any(map(is_open, ends.command))
        assert all(map(is_open, ends.stream))
        assert os.read(ends.stream[2], 8) == b""
    assert not any(map(is_open, ends.stream))


def test_the_oci_runtimes_own_descriptors_are_numbered_after_the_commands() -> None:
    with ExitStack() as opened:
        ends = Descriptors(opened)
        ends.add_status()
        for _ in range(3):
            ends.add_nothing()
        assert ends.add_for_runtime(os.dup(0)) == 3
        assert ends.add_for_runtime(os.dup(0)) == 4
        given = list(ends.command)
    assert not any(map(is_open, given))
