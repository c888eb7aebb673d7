"""Downloads that stall, break off or die with their worker: they go on where they were, and the digest decides."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from deploy.demo_image import digest
from kernel.config.reading import dump
from kernel.contracts.image import DropRequest
from kernel.errors import Corrupt, ResourceExhausted, Unavailable
from services.image import pull
from services.image.methods import create
from tests.integration.image.conftest import Call, Worker
from tests.integration.image.lying import Answer, Handler, Lying, reply

BLOB = random.Random(1).randbytes(1 << 20)
PATH = f"/v2/app/blobs/{digest(BLOB)}"
FIRST = 300_000


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "_FIRST_PAUSE", 0.01)


class Flaky:
    """Serves ranges of a blob, and breaks each answer off as `cuts` says: bytes of each, the last one whole."""

    def __init__(self, *cuts: int, stall: bool = False, etags: tuple[str, ...] = ('"a"',)) -> None:
        self.cuts = list(cuts)
        self.stall = stall
        self.etags = list(etags)
        self.ranges: list[str] = []
        self.shift = 0
        self.status = 206
        self.total = str(len(BLOB))

    def __call__(self, handler: Handler) -> None:
        asked = handler.headers.get("Range", "")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.status == 206 else 0
        body = BLOB[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", self.etags.pop(0) if len(self.etags) > 1 else self.etags[0])
        handler.send_header("Content-Length", str(len(body)))
        if start:
            handler.send_header("Content-Range", f"bytes {start + self.shift}-{len(BLOB) - 1}/{self.total}")
        handler.end_headers()
        if self.cuts:
            handler.wfile.write(body[: self.cuts.pop(0)])
            handler.wfile.flush()
            if self.stall:
                handler.server.stopping.wait(20)
            handler.close_connection = True
        else:
            handler.wfile.write(body)


def partials(worker: Worker) -> dict[str, bytes]:
    folder = worker.config.paths.blobs.parent / "partial"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


PARTIAL = f"{digest(BLOB).removeprefix('sha256:')}.partial"


@pytest.mark.parametrize("stall", [False, True])
async def test_goes_on_where_it_broke_off(workers, liar: Lying, stall: bool) -> None:
    worker: Worker = await workers(progress_timeout=0.5, download_retries=2)
    liar.routes[PATH] = flaky = Flaky(FIRST, FIRST, 20_000, stall=stall)
    call = Call()
    assert await worker.fetch(f"{liar.address}/app", BLOB, call=call) == BLOB
    assert flaky.ranges == ["", f"bytes={FIRST}-", f"bytes={2 * FIRST}-", f"bytes={2 * FIRST + 20_000}-"]
    assert call.done == sorted(call.done)
    assert worker.files() == [f"blobs/sha256/{digest(BLOB).removeprefix('sha256:')}"]


async def test_gives_up_where_nothing_comes_any_more(workers, liar: Lying) -> None:
    worker: Worker = await workers(download_retries=2)
    liar.routes[PATH] = flaky = Flaky(FIRST, 10, 10, 10)
    with pytest.raises(Unavailable, match=f"broke off after {FIRST + 20} of") as caught:
        await worker.fetch(f"{liar.address}/app", BLOB)
    assert type(caught.value) is Unavailable
    assert len(flaky.ranges) == 3
    assert partials(worker) == {PARTIAL: BLOB[: FIRST + 20]}


@pytest.mark.parametrize("trouble", ["offset", "etag", "total", "ignored", "416"])
async def test_starts_anew_where_the_rest_is_not_what_was_asked_for(workers, liar: Lying, trouble: str) -> None:
    worker: Worker = await workers(download_retries=1)
    flaky = Flaky(FIRST)
    liar.routes[PATH] = flaky
    match trouble:
        case "offset":
            flaky.shift = 1
        case "etag":
            flaky.etags = ['"a"', '"b"', '"b"']
        case "total":
            flaky.total = "5"
        case "ignored":
            flaky.status = 200
        case _:

            def refusing(handler: Handler) -> None:
                if handler.headers.get("Range"):
                    flaky.ranges.append(handler.headers["Range"])
                    reply(416, b"no")(handler)
                else:
                    flaky(handler)

            liar.routes[PATH] = refusing
    assert await worker.fetch(f"{liar.address}/app", BLOB) == BLOB
    assert flaky.ranges == ["", f"bytes={FIRST}-", *([] if trouble == "ignored" else [""])]


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 429])
async def test_a_busy_registry_is_asked_again(workers, liar: Lying, status: int) -> None:
    worker: Worker = await workers(download_retries=1)
    answers: list[Answer] = [reply(status), reply(200, BLOB)]
    liar.routes[PATH] = lambda handler: answers.pop(0)(handler)
    assert await worker.fetch(f"{liar.address}/app", BLOB) == BLOB
    liar.routes[PATH] = reply(status)
    worker.config.paths.blob(digest(BLOB)).unlink()
    with pytest.raises((Unavailable, ResourceExhausted)) as caught:
        await worker.fetch(f"{liar.address}/app", BLOB)
    assert type(caught.value) is (ResourceExhausted if status == 429 else Unavailable)


async def test_what_is_final_is_not_asked_again(workers, liar: Lying) -> None:
    worker: Worker = await workers(download_retries=3)
    liar.routes[PATH] = reply(404)
    with pytest.raises(Exception, match="404"):
        await worker.fetch(f"{liar.address}/app", BLOB)
    assert len(liar.seen) == 1


@pytest.mark.parametrize("changed", [False, True])
async def test_a_new_worker_goes_on_with_the_bytes_on_disk(workers, liar: Lying, changed: bool) -> None:
    worker: Worker = await workers()
    liar.routes[PATH] = flaky = Flaky(FIRST)
    with pytest.raises(Unavailable):
        await worker.fetch(f"{liar.address}/app", BLOB)
    await worker.service.close()
    assert partials(worker) == {PARTIAL: BLOB[:FIRST]}
    if changed:  # as a power cut may leave them
        (worker.config.paths.blobs.parent / "partial" / PARTIAL).write_bytes(bytes(FIRST))
    again = Worker(worker.config, await create(worker.config))
    assert await again.fetch(f"{liar.address}/app", BLOB) == BLOB
    assert flaky.ranges == ["", f"bytes={FIRST}-", *([""] if changed else [])]
    assert partials(worker) == {}
    await again.service.close()


async def test_all_bytes_on_disk_are_enough(worker: Worker, liar: Lying) -> None:
    (worker.config.paths.blobs.parent / "partial" / PARTIAL).write_bytes(BLOB)
    assert await worker.fetch(f"{liar.address}/app", BLOB) == BLOB
    assert [path for _, path, _ in liar.seen if path == PATH] == []


async def test_a_whole_blob_that_was_put_aside_is_not_fetched_again(worker: Worker, liar: Lying) -> None:
    """Its pull failed for another layer's sake."""
    liar.routes[PATH] = flaky = Flaky()
    await worker.fetch(f"{liar.address}/app", BLOB)
    drop = DropRequest(digests=(digest(BLOB), digest(b"never here")), aside=True)
    await worker.service.drop(drop, Call())  # type: ignore[arg-type]
    assert partials(worker) == {PARTIAL: BLOB}
    assert await worker.fetch(f"{liar.address}/app", BLOB) == BLOB
    assert (flaky.ranges, partials(worker)) == ([""], {})
    await worker.service.drop(DropRequest(digests=(digest(BLOB),)), Call())  # type: ignore[arg-type]
    assert worker.files() == []


async def test_a_wrong_digest_drops_what_came(worker: Worker, liar: Lying) -> None:
    liar.routes[PATH] = reply(200, bytes(len(BLOB)))
    with pytest.raises(Corrupt, match="have digest"):
        await worker.fetch(f"{liar.address}/app", BLOB)
    assert worker.files() == []


@pytest.mark.parametrize(
    ("start", "ranges"), [(BLOB[:FIRST], [f"bytes={FIRST}-"]), (bytes(FIRST), [f"bytes={FIRST}-", ""])]
)
async def test_another_endpoint_goes_on_and_does_not_suffer_from_lies(
    worker: Worker, liars, start: bytes, ranges: list[str]
) -> None:
    """The mirror breaks off: the registry gives the rest. Where the mirror lied too, it gives all."""
    mirror, own = liars(), liars()
    worker.registries(f"""
        [[registry]]
        location = "{own.address}"
        [[registry.mirror]]
        location = "{mirror.address}"
    """)
    mirror.routes[PATH] = reply(200, start, length=len(BLOB))
    own.routes[PATH] = flaky = Flaky()
    assert await worker.fetch(f"{own.address}/app", BLOB) == BLOB
    assert flaky.ranges == ranges


async def test_a_full_disk_is_no_reason_to_ask_elsewhere(workers, liar: Lying, monkeypatch: pytest.MonkeyPatch) -> None:
    worker: Worker = await workers(download_retries=3)
    liar.routes[PATH] = reply(200, BLOB)
    write, left = os.write, [FIRST]

    def full(fd: int, data: bytes) -> int:
        if len(data) < 10_000:
            return write(fd, data)
        if left[0] <= 0:
            raise OSError(28, os.strerror(28))
        left[0] -= len(data)
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ResourceExhausted, match="No space"):
        await worker.fetch(f"{liar.address}/app", BLOB)
    assert len(liar.seen) == 1
    assert worker.files() == []


async def test_a_real_registry_gives_ranges(workers, registries) -> None:
    registry = registries()
    registry._push_blob("app", BLOB)
    worker: Worker = await workers()
    (worker.config.paths.blobs.parent / "partial" / PARTIAL).write_bytes(BLOB[:FIRST])
    call = Call()
    assert await worker.fetch(f"{registry.address}/app", BLOB, call=call) == BLOB


KILLED = """
import asyncio, sys, yaml, msgspec
from kernel.config.reading import Config
from kernel.contracts.image import FetchRequest
from kernel.contracts.oci import Descriptor
from services.image.methods import create
from tests.integration.image.conftest import Call

async def main():
    config = msgspec.convert(yaml.safe_load(sys.stdin), Config)
    service = await create(config)
    blob = Descriptor(media_type="x", digest=sys.argv[2], size=int(sys.argv[3]))
    await service.fetch(FetchRequest(reference=sys.argv[1], blob=blob), Call())

asyncio.run(main())
"""


async def test_a_killed_worker_resumes_from_the_bytes_on_disk(worker: Worker, liar: Lying) -> None:
    liar.routes[PATH] = flaky = Flaky(FIRST, stall=True)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, f"{liar.address}/app", digest(BLOB), str(len(BLOB)),
        stdin=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert child.stdin
    child.stdin.write(dump(worker.config).encode())
    child.stdin.close()
    path = worker.config.paths.blobs.parent / "partial" / PARTIAL
    async with asyncio.timeout(15):
        while not path.exists() or path.stat().st_size < 65536:
            await asyncio.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    await child.wait()
    had = path.stat().st_size
    again = Worker(worker.config, await create(worker.config))
    assert await again.fetch(f"{liar.address}/app", BLOB) == BLOB
    assert flaky.ranges == ["", f"bytes={had}-"]
    await again.service.close()
