"""The image worker behind its contract, on a real bus."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.demo_image import Image
from kernel.bus.client import Client
from kernel.bus.worker import Server
from kernel.contracts import image as contract
from kernel.contracts.contract import Nothing
from kernel.contracts.image import FetchRequest, Progress, ResolveRequest
from kernel.errors import NotFound
from kernel.host.aio import Deadline
from tests.integration.image.conftest import Worker
from tests.integration.image.lying import Lying


async def test_a_pull_over_the_bus(worker: Worker, liar: Lying, small: Image, tmp_path: Path) -> None:
    server = Server(contract.CONTRACT, worker.service, f"ipc://{tmp_path}/calls")
    client = Client(contract.CONTRACT, f"ipc://{tmp_path}/calls")
    deadline = Deadline.after(10)
    found = await client.call(contract.RESOLVE, ResolveRequest(reference=f"{liar.address}/app"), deadline=deadline)
    assert found.config == small.config
    told: list[object] = []
    for layer in found.layers:
        request = FetchRequest(name=found.name, blob=layer)
        await client.call(contract.FETCH, request, deadline=deadline, on_progress=told.append)
    for layer in found.layers:
        assert Progress(digest=layer.digest, done=layer.size, total=layer.size) in told
    listed = await client.call(contract.BLOBS, Nothing(), deadline=deadline)
    assert listed.blobs == {layer.digest: layer.size for layer in found.layers}
    with pytest.raises(NotFound, match=f"registry {liar.address}"):
        await client.call(contract.RESOLVE, ResolveRequest(reference=f"{liar.address}/none"), deadline=deadline)
    await client.close()
    await server.close()
