"""The children's filters compile."""

from __future__ import annotations

from services.storage.confined import system_calls


def test_filters_are_whole_instructions() -> None:
    for calls in (system_calls.INFLATE, system_calls.UNTAR):
        program = system_calls.compile_filter(calls)
        assert program
        assert len(program) % 8 == 0


def test_no_filter_lets_a_program_start() -> None:
    assert not {"execve", "execveat", "clone", "clone3", "fork", "socket", "mount", "kill", "ptrace"} & {
        *system_calls.INFLATE,
        *system_calls.UNTAR,
    }
