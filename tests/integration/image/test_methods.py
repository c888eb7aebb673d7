"""The bus methods: joining, limits, deadlines, dropping; and once over a real bus."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from deploy.demo_image import Image, digest
from kernel.bus.client import Client
from kernel.bus.worker import Server
from kernel.contracts import image as contract
from kernel.contracts.definition import Nothing
from kernel.contracts.image import DropRequest, FetchRequest, KeepRequest, Progress, ResolveRequest
from kernel.contracts.oci import Descriptor
from kernel.errors import (
    Corrupt,
    CrispError,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from kernel.host.aio import Deadline
from services.image.methods import create
from tests.integration.image.conftest import Call, Worker
from tests.integration.image.lying import Lying, reply, stalling

BLOB = b"some bytes of a layer" * 100
PATH = f"/v2/app/blobs/{digest(BLOB)}"


@pytest.mark.parametrize("reference", ["", "a//b", "UPPER", "x:70000/y", "x@sha256:1", "u:p@host/x"])
async def test_bad_references_reach_nobody(worker: Worker, reference: str) -> None:
    with pytest.raises(InvalidInput):
        await worker.resolve(reference)


async def test_equal_fetches_join_and_tell_how_far_they_are(worker: Worker, liars) -> None:
    liar: Lying = liars()
    blob = os.urandom(3 << 20)
    served = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(blob)))
        handler.end_headers()
        handler.wfile.write(blob[: 1 << 20])
        handler.wfile.flush()
        asyncio.run_coroutine_threadsafe(served.wait(), loop).result(10)
        handler.wfile.write(blob[1 << 20 :])

    liar.routes[f"/v2/app/blobs/{digest(blob)}"] = slow
    first, second, third = Call(), Call(), Call()
    fetches = [asyncio.create_task(worker.fetch(f"{liar.address}/app", blob, call=call)) for call in (first, second)]
    async with asyncio.timeout(10):
        while not (first.told and second.told):
            await asyncio.sleep(0.01)
        fetches[0].cancel()  # whoever asked first may leave
        served.set()
        assert await fetches[1] == blob
    assert await worker.fetch(f"{liar.address}/app", blob, call=third) == blob
    assert len(liar.seen) == 1
    assert second.done[-1] == third.done[-1] == len(blob)
    assert second.done == sorted(second.done)


async def test_no_more_downloads_at_once_than_configured(workers, liars) -> None:
    worker: Worker = await workers(parallel_downloads=2)
    liar: Lying = liars()
    now, most = [], []
    blobs = [os.urandom(1000) for _ in range(6)]

    def counted(body: bytes):
        def answer(handler) -> None:
            now.append(body)
            most.append(len(now))
            time.sleep(0.05)  # in the registry's thread: long enough for a third to come in
            now.remove(body)
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        return answer

    for blob in blobs:
        liar.routes[f"/v2/app/blobs/{digest(blob)}"] = counted(blob)
    await asyncio.gather(*(worker.fetch(f"{liar.address}/app", blob) for blob in blobs))
    assert max(most) == 2


async def test_blobs_are_listed_and_dropped(worker: Worker, liar: Lying, small: Image) -> None:
    for layer in small.layers:
        await worker.fetch(f"{liar.address}/app", layer)
    (worker.config.paths.blobs / "no-blob").touch()
    listed = await worker.service.blobs(Nothing(), Call())  # type: ignore[arg-type]
    assert listed.blobs == {digest(layer): len(layer) for layer in small.layers}
    everything = tuple(listed.blobs)
    for _ in range(2):
        await worker.service.drop(DropRequest(digests=everything), Call())  # type: ignore[arg-type]
    assert worker.files() == ["blobs/sha256/no-blob"]
    with pytest.raises(InvalidInput):
        await worker.service.drop(DropRequest(digests=("sha256:../x",)), Call())  # type: ignore[arg-type]


async def test_documents_are_kept_under_their_digests(worker: Worker, small: Image) -> None:
    keep = KeepRequest(documents=(small.config, small.manifest))
    for _ in range(2):
        await worker.service.keep(keep, Call())  # type: ignore[arg-type]
    for of, content in ((small.id, small.config), (small.digest, small.manifest)):
        assert worker.config.paths.blob(of).read_bytes() == content
    assert len(worker.files()) == 2
    for bad in ((b"x" * (5 << 20),), (b"",) * 9):
        with pytest.raises(InvalidInput, match="documents"):
            await worker.service.keep(KeepRequest(documents=bad), Call())  # type: ignore[arg-type]


async def test_start_removes_what_a_dead_worker_left(workers) -> None:
    worker: Worker = await workers()
    partial = worker.config.paths.blobs.parent / "partial" / "left"
    partial.write_bytes(b"half")
    again = await create(worker.config)
    assert worker.files() == []
    await again.close()


async def test_an_empty_blob(worker: Worker, liar: Lying) -> None:
    path = f"/v2/app/blobs/{digest(b'')}"
    liar.routes[path] = reply(200, b"x")
    with pytest.raises(Corrupt, match="sends 1 bytes"):
        await worker.fetch(f"{liar.address}/app", b"")
    liar.routes[path] = reply(200, b"")
    assert await worker.fetch(f"{liar.address}/app", b"") == b""


async def test_no_room_is_said_before_the_download(worker: Worker, liar: Lying) -> None:
    blob = Descriptor(media_type="x", digest=digest(b"x"), size=1 << 49)
    with pytest.raises(ResourceExhausted, match="no room"):
        await worker.fetch(f"{liar.address}/app", blob)
    assert not liar.seen


async def test_the_callers_deadline_ends_a_resolve(worker: Worker, liar: Lying) -> None:
    liar.routes["/v2/app/manifests/latest"] = stalling(b"{", 100)
    before = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="app"):
        await worker.resolve(f"{liar.address}/app", call=Call(Deadline.after(0.5)))
    await worker.service.close()  # its thread has been woken too
    assert time.monotonic() - before < 3


async def test_a_download_that_nobody_waits_for_goes_on_until_it_is_dropped(workers, liar: Lying) -> None:
    worker: Worker = await workers(progress_timeout=20.0)
    liar.routes[PATH] = stalling(BLOB[:100], len(BLOB))
    with pytest.raises(DeadlineExceeded):
        await worker.fetch(f"{liar.address}/app", BLOB, call=Call(Deadline.after(0.5)))
    assert len(worker.files()) == 1
    awaited = Call(Deadline.after(15))
    again = asyncio.create_task(worker.fetch(f"{liar.address}/app", BLOB, call=awaited))
    async with asyncio.timeout(5):
        while not awaited.told:
            await asyncio.sleep(0.01)
    drop = DropRequest(digests=(digest(BLOB),))
    await worker.service.drop(drop, Call())  # type: ignore[arg-type]
    assert not again.done()
    again.cancel()
    await asyncio.wait([again])
    await worker.service.drop(drop, Call())  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        while worker.files():
            await asyncio.sleep(0.01)
    assert [path for _, path, _ in liar.seen] == [PATH]


async def test_beginnings_go_where_room_is_needed(workers, liar: Lying) -> None:
    """Of a download that still runs, too: its thread has ended when they are gone."""
    worker: Worker = await workers(progress_timeout=20.0)
    blob = os.urandom(300_000)
    path = f"/v2/app/blobs/{digest(blob)}"
    partial = worker.config.paths.blobs.parent / "partial" / f"{digest(blob).removeprefix('sha256:')}.partial"
    for answer in (stalling(blob[:200_000], len(blob)), reply(200, blob[:200_000], length=len(blob))):
        liar.routes[path] = answer
        call = Call(Deadline.after(1))
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await worker.fetch(f"{liar.address}/app", blob, call=call)
        assert partial.exists()
        await worker.service.drop(DropRequest(digests=(digest(blob),), partial=True), Call())  # type: ignore[arg-type]
        assert worker.files() == []


async def test_anothers_failure_is_not_ours(workers, liars, small: Image) -> None:
    """One source stalls and fails; who joined with another source gets the blob from its own."""
    worker: Worker = await workers(progress_timeout=1.0)
    bad, good = liars(), liars()
    bad.routes[PATH] = stalling(b"x", len(BLOB))
    good.routes[PATH] = reply(200, BLOB)
    first = Call()
    failing = asyncio.create_task(worker.fetch(f"{bad.address}/app", BLOB, call=first))
    async with asyncio.timeout(5):
        while not first.told:
            await asyncio.sleep(0.01)
    assert await worker.fetch(f"{good.address}/app", BLOB) == BLOB
    with pytest.raises(Unavailable):
        await failing


async def test_bad_requests_are_refused(worker: Worker) -> None:
    with pytest.raises(CrispError, match="sha256"):
        await worker.fetch("x.example/y", Descriptor(media_type="x", digest="sha256:../x", size=1))
    with pytest.raises(CrispError, match=r"blob\.size"):
        await worker.fetch("x.example/y", Descriptor(media_type="x", digest=digest(b""), size=-1))
    assert (await worker.service.blobs(Nothing(), Call())).blobs == {}  # type: ignore[arg-type]


async def test_a_pull_over_the_bus(worker: Worker, liar: Lying, small: Image, tmp_path: Path) -> None:
    server = Server(contract.CONTRACT, worker.service, f"ipc://{tmp_path}/calls")
    client = Client(contract.CONTRACT, f"ipc://{tmp_path}/calls")
    deadline = Deadline.after(10)
    found = await client.call(contract.RESOLVE, ResolveRequest(reference=f"{liar.address}/app"), deadline=deadline)
    assert found.config == small.config
    told: list[object] = []
    for layer in found.layers:
        request = FetchRequest(reference=found.name, blob=layer)
        await client.call(contract.FETCH, request, deadline=deadline, on_progress=told.append)
    for layer in found.layers:
        assert Progress(digest=layer.digest, done=layer.size, total=layer.size) in told
    listed = await client.call(contract.BLOBS, Nothing(), deadline=deadline)
    assert listed.blobs == {layer.digest: layer.size for layer in found.layers}
    with pytest.raises(NotFound, match=f"registry {liar.address}"):
        await client.call(contract.RESOLVE, ResolveRequest(reference=f"{liar.address}/none"), deadline=deadline)
    await client.close()
    await server.close()
