"""The deadline of a flow that goes on without its caller."""

from __future__ import annotations

from tests.harness.fakes.pod_workers import a_call


def test_a_flow_has_at_least_its_own_time() -> None:
    assert 9 < a_call(seconds=1).flow_deadline(10).remaining() <= 10
    assert 19 < a_call(seconds=20).flow_deadline(10).remaining() <= 20
