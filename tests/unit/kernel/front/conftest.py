"""A front before fake workers, and its gRPC server on a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from kernel.cri.generated import cri_pb2_grpc as rpc
from kernel.front import server
from kernel.front.context import Front
from tests.harness.fakes import pod_workers as fakes

_LIMITS = [("grpc.max_receive_message_length", 80 << 20), ("grpc.max_send_message_length", 80 << 20)]


@pytest.fixture
def host() -> fakes.Host:
    return fakes.Host()


@pytest.fixture
async def front(host: fakes.Host) -> AsyncIterator[Front]:
    made = fakes.make_front(host)
    fakes.watch(made)
    yield made
    await made.tasks.close()


@pytest.fixture
async def pod(front: Front) -> str:
    return await fakes.run(front)


@pytest.fixture
async def channel(front: Front, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    serving = await server.serve(front, tmp_path / "crisp.sock")
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/crisp.sock", options=_LIMITS) as made:
        yield made
    await serving.stop(None)


@pytest.fixture
def runtime(channel: grpc.aio.Channel) -> rpc.RuntimeServiceAsyncStub:
    return rpc.RuntimeServiceStub(channel)
