"""The worker's inventory, and the sweep of cgroups that belong to nobody."""

from __future__ import annotations

from pathlib import Path

from kernel.contracts.definition import Nothing
from tests.integration.runtime.conftest import Node


async def test_inventory_and_sweep(node: Node, parent: str) -> None:
    await node.pod()
    stray = Path("/sys/fs/cgroup/memory") / parent.strip("/") / "stray"
    if not stray.parent.exists():
        stray = Path("/sys/fs/cgroup") / parent.strip("/") / "stray"
    stray.mkdir()
    inventory = await node.service.inventory(Nothing(), node.call())
    assert inventory.cgroups == (f"{parent}/stray",)
    assert inventory.pods == tuple(node.sandboxes)
    await node.service.sweep(Nothing(), node.call())
    assert not stray.exists()
