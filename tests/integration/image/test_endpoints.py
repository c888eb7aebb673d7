"""Mirrors, and the credentials of the request and of the node, with real registries."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from deploy.demo_image import Image, digest
from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition, Unauthenticated, Unavailable
from tests.harness import host
from tests.harness.registry import free_port
from tests.integration.image.conftest import Worker

SECRET = "hunter2-do-not-show"


async def test_basic_credentials(worker: Worker, registries, small: Image, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    registry = registries(login=("ann", SECRET))
    registry.push(small, "app", "latest")
    reference = f"{registry.address}/app"
    await worker.pull(reference, small, Auth(username="ann", password=SECRET))
    with pytest.raises(Unauthenticated, match="requires a user name") as without:
        await worker.resolve(reference)
    with pytest.raises(Unauthenticated, match="refused") as wrong:
        await worker.resolve(reference, Auth(username="ann", password=f"{SECRET}-not"))
    for said in (str(without.value), str(wrong.value), caplog.text):
        assert SECRET not in said
    assert registry.address in str(wrong.value)


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
    with pytest.raises(Unauthenticated, match="requires a user name"):
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
