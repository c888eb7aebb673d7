"""Blobs that come too slowly or stop coming."""

from __future__ import annotations

import pytest

from kernel.errors import Unavailable
from tests.integration.image.conftest import Worker
from tests.integration.image.lying import Handler, Lying, stalling
from tests.integration.image.test_transport import BLOB, PATH


async def test_a_stalled_download_ends_after_the_progress_timeout(workers, liar: Lying) -> None:
    worker: Worker = await workers(progress_timeout=0.5)
    liar.routes[PATH] = stalling(BLOB[:100], len(BLOB))
    with pytest.raises(Unavailable, match="stalled") as caught:
        await worker.fetch(f"{liar.address}/app", BLOB)
    assert liar.address in str(caught.value)
    assert worker.files() == []


async def test_a_drip_is_a_stall(workers, liar: Lying) -> None:
    worker: Worker = await workers(progress_timeout=0.4)

    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BLOB)))
        handler.end_headers()
        while not handler.server.stopping.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    liar.routes[PATH] = drip
    with pytest.raises(Unavailable, match=r"stalled: [0-9]+ bytes"):
        await worker.fetch(f"{liar.address}/app", BLOB)
    assert worker.files() == []
