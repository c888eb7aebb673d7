"""How flows run: side by side, joined, again."""

from __future__ import annotations

import asyncio

import pytest

from kernel.errors import Internal, Unavailable
from kernel.front import flows
from kernel.front.context import Front
from tests.harness.fakes import pod_workers as fakes


async def test_all_steps_end_before_the_first_error_is_raised() -> None:
    ended: list[str] = []

    async def fails() -> None:
        raise Internal("broken")

    async def works() -> None:
        await asyncio.sleep(0.01)
        ended.append("works")

    with pytest.raises(Internal):
        await flows.all_of(fails(), works())
    assert ended == ["works"]


async def test_a_bug_in_one_step_is_not_hidden_by_the_failure_of_another() -> None:
    async def fails() -> None:
        raise Internal("broken")

    async def has_a_bug() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        await flows.all_of(fails(), has_a_bug())


async def test_one_flow_for_a_key(front: Front) -> None:
    ran: list[int] = []

    async def flow() -> None:
        ran.append(1)
        await asyncio.sleep(0)

    await asyncio.gather(*(flows.join(front, ("x", "id"), flow) for _ in range(3)))
    assert ran == [1]
    await flows.join(front, ("x", "id"), flow)
    assert ran == [1, 1]


async def test_what_fails_is_tried_until_it_succeeds(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "_FIRST_PAUSE", 0.0)
    outcomes = [Unavailable("away"), Unavailable("away"), None]

    async def flow() -> None:
        if (error := outcomes.pop(0)) is not None:
            raise error

    flows.keep_trying(front, "removal", "id", flow)
    flows.keep_trying(front, "removal", "id", flow)  # it is being tried already
    await fakes.settled(front)
    assert outcomes == []
