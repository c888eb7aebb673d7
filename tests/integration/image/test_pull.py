"""Pulls from real registries: by tag and digest, for a platform, with a password, from mirrors."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from deploy.demo_image import Image, digest, image
from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition, NotFound, Unauthenticated, Unavailable
from tests.harness import host
from tests.harness.registry import free_port
from tests.integration.image.conftest import Worker, layered

SECRET = "hunter2-do-not-show"


async def test_by_tag_and_by_digest(worker: Worker, registries, small: Image, docker_small: Image) -> None:
    registry = registries()
    registry.push(small, "team/app", "v1")
    registry.push(docker_small, "docker", "latest")
    await worker.pull(f"{registry.address}/team/app:v1", small)
    await worker.pull(f"{registry.address}/team/app@{small.digest}", small)
    await worker.pull(f"{registry.address}/docker", docker_small)
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
    await (await workers(platform="linux/arm64/v8")).pull(f"{registry.address}/app", other)
    with pytest.raises(FailedPrecondition, match="no manifest for linux/s390x; it has linux/amd64, linux/arm64"):
        await (await workers(platform="linux/s390x")).resolve(f"{registry.address}/app")


async def test_basic_credentials(worker: Worker, registries, small: Image, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    registry = registries(login=("ann", SECRET))
    registry.push(small, "app", "latest")
    reference = f"{registry.address}/app"
    await worker.pull(reference, small, Auth(username="ann", password=SECRET))
    with pytest.raises(Unauthenticated, match="wants a user name") as without:
        await worker.resolve(reference)
    with pytest.raises(Unauthenticated, match="refused") as wrong:
        await worker.resolve(reference, Auth(username="ann", password=f"{SECRET}-not"))
    for said in (str(without.value), str(wrong.value), caplog.text):
        assert SECRET not in said
    assert registry.address in str(wrong.value)


async def test_a_real_registry_with_a_token_server(
    worker: Worker, registries, small: Image, caplog: pytest.LogCaptureFixture
) -> None:
    """One token for a whole pull; at a mirror the mirror's own path is what it is for."""
    caplog.set_level("DEBUG")
    registry = registries(login=("ann", SECRET), tokens=True)
    registry.push(small, "team/app", "latest")
    registry.push(small, "hub/far/app", "latest")
    ann = Auth(username="ann", password=SECRET)
    await worker.pull(f"{registry.address}/team/app", small, ann)
    await worker.resolve(f"{registry.address}/team/app", ann)
    assert registry.tokens.asked == [("ann", "repository:team/app:pull")]
    for wrong in (None, Auth(username="ann", password=f"{SECRET}-not")):
        with pytest.raises(Unauthenticated, match="token server") as caught:
            await worker.resolve(f"{registry.address}/team/app", wrong)
        assert SECRET not in str(caught.value)
    registry.tokens.asked.clear()
    worker.registries(f"""
        [[registry]]
        location = "far.invalid"
        [[registry.mirror]]
        location = "{registry.address}/hub/far"
    """)
    found = await worker.resolve("far.invalid/app", ann)
    assert found.name == "far.invalid/app"
    assert registry.tokens.asked == [("ann", "repository:hub/far/app:pull")]
    assert SECRET not in caplog.text
    assert "eyJ" not in caplog.text  # how a token begins


async def test_a_mirror_for_digests_only_serves_the_layers_too(worker: Worker, registries, small: Image) -> None:
    registry = registries()
    registry.push(small, "far/app", "latest")
    worker.registries(f"""
        [[registry]]
        location = "127.0.0.1:{free_port()}"
        prefix = "far.invalid"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "{registry.address}/far"
    """)
    await worker.pull(f"far.invalid/app@{small.digest}", small)
    with pytest.raises(Unavailable):
        await worker.resolve("far.invalid/app")


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
    await worker.pull("app", small)
    with pytest.raises(Unavailable) as caught:
        await worker.resolve("other")
    assert str(caught.value).count(dead) == 2  # the registry itself, and the first mirror
    assert registry.address in str(caught.value)
    worker.registries('[[registry]]\nprefix = "docker.io/library"\nlocation = "x"\nblocked = true\n')
    with pytest.raises(FailedPrecondition, match="blocked"):
        await worker.resolve("app")


async def test_the_nodes_own_credentials(workers, registries, small: Image, tmp_path: Path) -> None:
    """Scoped by repository, for the registry and for a mirror; a request's own credentials go before them."""
    file = tmp_path / "auth.json"
    worker: Worker = await workers(global_auth_file=str(file))
    registry = registries(login=("ann", SECRET))
    registry.push(small, "team/app", "latest")
    reference = f"{registry.address}/team/app"
    with pytest.raises(Unauthenticated, match="wants a user name"):
        await worker.resolve(reference)
    good = base64.b64encode(f"ann:{SECRET}".encode()).decode()
    bad = base64.b64encode(b"ann:wrong").decode()
    auths = {f"{registry.address}/team": {"auth": good}, registry.address: {"auth": bad}}
    file.write_text(json.dumps({"auths": auths}))
    await worker.pull(reference, small)
    with pytest.raises(Unauthenticated, match="refused"):
        await worker.resolve(f"{registry.address}/other/app")
    with pytest.raises(Unauthenticated, match="refused"):
        await worker.resolve(reference, Auth(username="bob", password="x"))
    worker.registries(f"""
        [[registry]]
        location = "far.invalid"
        [[registry.mirror]]
        location = "{registry.address}"
    """)
    await worker.pull("far.invalid/team/app", small)
    await worker.pull("far.invalid/team/app", small, Auth(username="far", password="other"))


async def test_a_pull_through_mirror(worker: Worker, registries, small: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real registry that fetches from another what it has not, and serves on when that one is gone."""
    registry = registries()
    registry.push(small, "library/app", "latest")
    monkeypatch.setenv("REGISTRY_PROXY_REMOTEURL", f"http://{registry.address}")
    mirror = registries()
    worker.registries(f"""
        [[registry]]
        prefix = "docker.io"
        location = "127.0.0.1:{free_port()}"
        [[registry.mirror]]
        location = "{mirror.address}"
        pull-from-mirror = "tag-only"
        [[registry.mirror]]
        location = "{mirror.address}"
        pull-from-mirror = "digest-only"
    """)
    await worker.pull("app", small)
    for layer in small.layers:
        worker.config.paths.blob(digest(layer)).unlink()
        await asyncio.to_thread(host.until, "the mirror keeps the layer", mirror.blob_file(digest(layer)).exists)
    registry.stop()
    await worker.pull(f"app@{small.digest}", small)
