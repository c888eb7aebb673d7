"""The children's lists of system calls: each call exists and has its reason, and no list lets a program start."""

from __future__ import annotations

import pytest

from kernel.host import filters
from services.storage.confined import system_calls

LISTS = {name: getattr(system_calls, name) for name in ("INFLATE", "JUDGE", "UNTAR", "VERIFY", "UNARCHIVE")}
GROUPS = (
    system_calls._PYTHON,
    system_calls._LOOKING,
    system_calls._MAKING,
    system_calls._COMPARING,
    system_calls._FILLING,
)


@pytest.mark.parametrize("name", LISTS)
def test_filters_are_whole_instructions(name: str) -> None:
    program = filters.allow_only(LISTS[name])
    assert program
    assert len(program) % 8 == 0


@pytest.mark.parametrize("name", LISTS)
def test_no_filter_lets_a_program_start(name: str) -> None:
    assert not {"execve", "execveat", "clone", "clone3", "fork", "socket", "mount", "kill", "ptrace"} & {*LISTS[name]}


def test_each_call_has_its_reason() -> None:
    for group in GROUPS:
        assert all(reason.strip() for reason in group.values())
    assert {call for calls in LISTS.values() for call in calls} == {call for group in GROUPS for call in group}


def test_each_call_exists() -> None:
    assert [call for group in GROUPS for call in group if not filters.exists(call)] == []
