"""Images as messages of the CRI."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from kernel.contracts.oci import ImageConfig
from kernel.contracts.storage import FsInfo, Usage
from kernel.front.responses import image_views
from tests.harness.fakes.pod_workers import IMAGE

TAGGED = replace(IMAGE, tags=("docker.io/library/busybox:latest",))


@pytest.mark.parametrize(
    ("pattern", "pinned"),
    [
        ("busybox", True), ("docker.io/library/busybox:latest", True), ("busybox:1", False),
        ("docker.io/library/*", True), ("docker.io/lib", False), ("*box*", True), ("*Box*", False), ("*", True),
        ("sha256:*", True), (IMAGE.id, True), ("Not A Reference", False),
    ],
)  # fmt: skip
def test_images_are_pinned_by_name_beginning_or_keyword(pattern: str, pinned: bool) -> None:
    assert image_views.is_pinned(TAGGED, (pattern,)) is pinned
    assert image_views.to_cri(TAGGED, (pattern,)).pinned is pinned


def test_a_user_is_a_number_or_a_name_and_a_size_is_never_zero() -> None:
    numbered = image_views.to_cri(replace(TAGGED, config=ImageConfig(user="7:8"), size=0), ())
    assert (numbered.HasField("uid"), numbered.uid.value, numbered.username, numbered.size) == (True, 7, "", 1)
    named = image_views.to_cri(replace(TAGGED, config=ImageConfig(user="web")), ())
    assert (named.HasField("uid"), named.username, named.spec.image) == (False, "web", TAGGED.tags[0])


def test_the_verbose_part_is_the_image_s_configuration() -> None:
    config = ImageConfig(user="web", env=("A=b",), volumes=("/data",), labels={"x": "y"})
    found = json.loads(image_views.info(replace(TAGGED, config=config))["info"])
    assert found["labels"] == {"x": "y"}
    assert found["imageSpec"]["config"]["Env"] == ["A=b"]
    assert found["imageSpec"]["config"]["Volumes"] == {"/data": {}}


def test_both_file_systems() -> None:
    info = FsInfo(
        images_mountpoint="/i", images=Usage(bytes=1, inodes=2), containers_mountpoint="/c",
        containers=Usage(bytes=3, inodes=4), driver="overlay",
    )  # fmt: skip
    reply = image_views.fs_info_to_cri(info, 5)
    (images,), (containers,) = reply.image_filesystems, reply.container_filesystems
    assert (images.fs_id.mountpoint, images.used_bytes.value, images.inodes_used.value) == ("/i", 1, 2)
    assert (containers.fs_id.mountpoint, containers.used_bytes.value, containers.timestamp) == ("/c", 3, 5)
