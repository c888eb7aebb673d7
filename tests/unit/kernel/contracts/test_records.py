"""The states of a container that have a process, or may have one."""

from __future__ import annotations

from kernel.contracts.records import ContainerState


def test_states_with_a_process() -> None:
    with_process = {state for state in ContainerState if state.has_process}
    assert with_process == {ContainerState.CREATED, ContainerState.RUNNING}
    assert {state for state in ContainerState if state.may_have_process} == with_process | {ContainerState.UNKNOWN}
