"""A front before workers that hold images, and fail and lie on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kernel.front.context import Front
from tests.harness.fakes import image_workers as fakes


@pytest.fixture
def workers():
    return fakes.Workers()


@pytest.fixture
async def front(workers) -> AsyncIterator[Front]:
    made = fakes.make_front(workers, pinned=("busybox", "registry.k8s.io/pause*"))
    yield made
    await made.tasks.close()
