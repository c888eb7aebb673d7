"""What the host and its programs can do for containers."""

from __future__ import annotations

from kernel.contracts.definition import Nothing
from tests.integration.runtime.conftest import Node


async def test_platform(node: Node) -> None:
    platform = await node.service.platform(Nothing(), node.call())
    assert platform.cgroup_driver == "cgroupfs"
    assert [handler.name for handler in platform.handlers] == ["runc", "crun"]
    assert platform.handlers[0].recursive_read_only_mounts
    assert platform.handlers[0].version
