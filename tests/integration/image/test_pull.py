"""Pulls from real registries: plain, with a password, over TLS with a CA of our own; mirrors; what is on disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest

from deploy.demo_image import Image, digest, image
from kernel.contracts.contract import Nothing
from kernel.contracts.image import DropRequest
from kernel.contracts.oci import Auth, Descriptor
from kernel.errors import FailedPrecondition, InvalidInput, NotFound, Unauthenticated, Unavailable
from tests.harness.registry import free_port
from tests.integration.image.conftest import Call, Worker, layered
from tests.integration.image.lying import Lying

SECRET = "hunter2-do-not-show"


async def pull(worker: Worker, reference: str, expected: Image, auth: Auth | None = None) -> None:
    """Pull an image and check all that came."""
    found = await worker.resolve(reference, auth)
    assert found.manifest_digest == expected.digest
    assert found.config == expected.config
    blobs = await asyncio.gather(*(worker.fetch(found.name, layer, auth) for layer in found.layers))
    assert tuple(blobs) == expected.layers


async def test_by_tag_and_by_digest(worker: Worker, registries, small: Image, docker_small: Image) -> None:
    registry = registries()
    registry.push(small, "team/app", "v1")
    registry.push(docker_small, "docker", "latest")
    await pull(worker, f"{registry.address}/team/app:v1", small)
    await pull(worker, f"{registry.address}/team/app@{small.digest}", small)
    await pull(worker, f"{registry.address}/docker", docker_small)
    found = await worker.resolve(f"{registry.address}/team/app:v1@{small.digest}")
    assert (found.name, found.tag) == (f"{registry.address}/team/app", "v1")
    with pytest.raises(NotFound, match=registry.address.replace(".", r"\.") + ".*404.*MANIFEST_UNKNOWN"):
        await worker.resolve(f"{registry.address}/team/app:none")
    assert all("partial" not in file for file in worker.files())


async def test_an_index_gives_the_manifest_of_the_platform(workers, registries, small: Image) -> None:
    registry = registries()
    other = image([layered("arm")])
    named = registry.push_index({"arm64": other, "amd64": small}, "app", "latest")
    worker = await workers()
    found = await worker.resolve(f"{registry.address}/app")
    assert found.manifest_digest == small.digest
    assert named.endswith(found.digest)
    await pull(await workers(platform="linux/arm64/v8"), f"{registry.address}/app", other)
    with pytest.raises(FailedPrecondition, match="no manifest for linux/s390x; it has linux/amd64, linux/arm64"):
        await (await workers(platform="linux/s390x")).resolve(f"{registry.address}/app")


async def test_basic_credentials(worker: Worker, registries, small: Image, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    registry = registries(login=("ann", SECRET))
    registry.push(small, "app", "latest")
    reference = f"{registry.address}/app"
    await pull(worker, reference, small, Auth(username="ann", password=SECRET))
    with pytest.raises(Unauthenticated, match="wants a user name") as without:
        await worker.resolve(reference)
    with pytest.raises(Unauthenticated, match="refused") as wrong:
        await worker.resolve(reference, Auth(username="ann", password=f"{SECRET}-not"))
    for said in (str(without.value), str(wrong.value), caplog.text):
        assert SECRET not in said
    assert registry.address in str(wrong.value)


async def test_tls_with_a_ca_of_our_own(worker: Worker, registries, small: Image) -> None:
    registry = registries(tls=True)
    registry.push(small, "app", "latest")
    reference = f"{registry.address}/app"
    worker.registries(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = false\n')
    with pytest.raises(Unavailable, match="certificate is not trusted"):
        await worker.resolve(reference)
    folder = Path(worker.config.image.certs_dir) / registry.address
    folder.mkdir(parents=True)
    shutil.copy(registry.certificate, folder / "ca.crt")
    await pull(worker, reference, small)
    (folder / "ca.crt").write_text("no certificate")
    with pytest.raises(FailedPrecondition, match=r"ca\.crt"):
        await worker.resolve(reference)


async def test_insecure_does_not_verify(worker: Worker, registries, small: Image) -> None:
    registry = registries(tls=True)
    registry.push(small, "app", "latest")
    worker.registries(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
    await pull(worker, f"{registry.address}/app", small)


async def test_mirrors_come_first_and_fall_back(worker: Worker, registries, small: Image) -> None:
    registry = registries()
    registry.push(small, "hub/library/app", "latest")
    dead = f"127.0.0.1:{free_port()}"
    worker.registries(f"""
        [[registry]]
        prefix = "docker.io"
        location = "{dead}/own"
        [[registry.mirror]]
        location = "{dead}/first"
        [[registry.mirror]]
        location = "{registry.address}/hub"
    """)
    await pull(worker, "app", small)
    with pytest.raises(Unavailable) as caught:
        await worker.resolve("other")
    assert str(caught.value).count(dead) == 2  # the registry itself, and the first mirror
    assert registry.address in str(caught.value)
    worker.registries('[[registry]]\nprefix = "docker.io/library"\nlocation = "x"\nblocked = true\n')
    with pytest.raises(FailedPrecondition, match="blocked"):
        await worker.resolve("app")


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


async def test_start_removes_what_a_dead_worker_left(workers) -> None:
    worker: Worker = await workers()
    partial = worker.config.paths.blobs.parent / "partial" / "left"
    partial.write_bytes(b"half")
    from services.image.methods import create

    again = await create(worker.config)
    assert worker.files() == []
    await again.close()


async def test_an_empty_blob(worker: Worker, liar: Lying) -> None:
    liar.routes[f"/v2/app/blobs/{digest(b'')}"] = liar.routes["/v2/app/manifests/latest"]
    with pytest.raises(Exception, match="sends"):
        await worker.fetch(f"{liar.address}/app", b"")


async def test_no_room_is_said_before_the_download(worker: Worker, liar: Lying) -> None:
    blob = Descriptor(media_type="x", digest=digest(b"x"), size=1 << 49)
    with pytest.raises(Exception, match="no room"):
        await worker.fetch(f"{liar.address}/app", blob)
    assert not liar.seen
