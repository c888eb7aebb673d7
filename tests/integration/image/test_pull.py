"""Pulls from real registries: by tag and digest, for a platform, with a password, from mirrors."""

from __future__ import annotations

import pytest

from deploy.demo_image import Image, image
from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition, NotFound, Unauthenticated
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
