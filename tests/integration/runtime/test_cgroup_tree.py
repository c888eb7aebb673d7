"""Cgroups of the host: made, filled, emptied and removed."""

from __future__ import annotations

import asyncio

import pytest

from kernel.errors import Internal
from kernel.host.aio import Deadline
from services.runtime.cgroups import hierarchies
from services.runtime.cgroups.cgroup_tree import Cgroups


async def test_the_life_of_a_cgroup(parent: str) -> None:
    cgroups = Cgroups(hierarchies.find())
    path = f"{parent}/inner"
    assert cgroups.missing(path) == [parent, path]
    process = await asyncio.create_subprocess_exec("sh", "-c", "read x; sleep 100 & sleep 100", stdin=-1)
    assert process.stdin is not None
    try:
        cgroups.make(path)
        cgroups.make(path)
        assert cgroups.missing(path) == []
        cgroups.enter(f"{path}/crisp-x", process.pid)
        process.stdin.write(b"go\n")
        assert process.pid in cgroups.processes(parent)
        assert not cgroups.remove_if_empty(path)
        with pytest.raises(Internal, match="in use"):
            cgroups.remove(parent)
        await cgroups.kill([parent], Deadline.after(10))
        assert cgroups.processes(parent) == []
        assert cgroups.below(parent)
    finally:
        if process.returncode is None:
            await process.wait()
        cgroups.remove(parent)
    assert cgroups.missing(parent) == [parent]
    await cgroups.kill([parent], Deadline.after(1))
    cgroups.remove(parent)
