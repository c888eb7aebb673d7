"""Watches run as long as the front, whatever ends them, and what they report reaches the replica."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts import network, supervisor
from kernel.front import watches
from kernel.front.containers.checkpoint import thaw_forgotten
from kernel.front.context import Front
from tests.harness.fakes import pod_workers as fakes


async def test_a_watch_that_a_bug_ended_starts_anew(
    host: fakes.Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watches, "_PAUSE", 0.0)
    front = fakes.make_front(host)
    again = asyncio.Event()

    async def broken(_: Front) -> None:
        if "starts anew" in caplog.text:
            again.set()
            await asyncio.Event().wait()
        raise ZeroDivisionError

    monkeypatch.setattr(watches, "watch_network", broken)
    watches.begin(front, thaw_forgotten)
    async with asyncio.timeout(5):
        await again.wait()
    await front.tasks.close()


async def test_network_and_health_reach_the_replica(front: Front, host: fakes.Host) -> None:
    host.events = {
        "watch_ready": [network.Readiness(ready=True)],
        "watch_health": [supervisor.Health(down={"image": "starting"})],
    }
    watches.begin(front, thaw_forgotten)
    async with asyncio.timeout(5):
        while not (front.replica.network.ready and front.replica.down and front.replica.platform):
            await asyncio.sleep(0)
