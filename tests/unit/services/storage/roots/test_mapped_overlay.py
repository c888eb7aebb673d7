"""Whom files of a layer belong to in a user namespace."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.contracts.oci import IdMap, IdRange
from kernel.errors import FailedPrecondition
from services.storage.roots import mapped_overlay, overlay


@pytest.mark.parametrize(("stored", "host"), [(0, 100000), (999, 100999), (1000, 100000), (65534, 100000)])
def test_an_owner_that_is_not_known_is_root(stored: int, host: int) -> None:
    assert mapped_overlay.host_id(IdRange(container_id=0, host_id=100000, length=1000), stored) == host


def test_users_and_groups_are_apart() -> None:
    ids = IdMap(
        uids=IdRange(container_id=0, host_id=100000, length=10), gids=IdRange(container_id=0, host_id=200000, length=10)
    )
    assert mapped_overlay.owner(ids, 3, 4) == (100003, 200004)
    assert ids.root == (100000, 200000)


def test_paths_that_the_kernel_would_not_take() -> None:
    stage = Path("/" + "x" * 255)
    plan = overlay.plan_mount([Path("/l")], stage, Path("/c"), Path("/c/rootfs"))
    with pytest.raises(FailedPrecondition, match="longer than 255"):
        mapped_overlay.attach(plan, Path("/pin"), stage)
