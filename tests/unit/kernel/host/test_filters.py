"""Compiled filters; what they do to a process is tested in tests/confine."""

from __future__ import annotations

import pyseccomp

from kernel.host import filters


def test_a_filter_is_a_program_of_whole_instructions() -> None:
    program = filters.allow_only(["read", "write", "exit_group"])
    assert program
    assert len(program) % 8 == 0
    assert program == filters.allow_only(["read", "write", "exit_group"])
    assert program != filters.allow_only(["read"])
    assert len(filters.compile_filter(pyseccomp.SyscallFilter(pyseccomp.ALLOW))) % 8 == 0


def test_calls_that_an_architecture_lacks() -> None:
    assert filters.exists("read")
    assert not filters.exists("no_such_call")
