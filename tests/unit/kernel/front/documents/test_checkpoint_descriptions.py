"""What a checkpoint may say of itself, and what of it counts."""

from __future__ import annotations

import json

import pytest

from kernel.contracts.storage import Descriptions
from kernel.errors import InvalidInput
from kernel.front.documents.checkpoint_descriptions import is_listed, parse

ID = "1" * 64


def said(config: dict[str, object], spec: dict[str, object]) -> Descriptions:
    return Descriptions(config=json.dumps(config).encode(), spec=json.dumps(spec).encode())


def test_image_mounts_and_terminal_are_read() -> None:
    spec = {
        "process": {"terminal": True, "args": ["sh"], "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}},
        "mounts": [
            {"destination": "/proc", "type": "proc"},
            {"destination": "/data", "type": "bind", "source": "/etc", "options": ["rw"]},
            {"destination": "/dev/shm", "type": "bind", "source": "/x"},
        ],
        "annotations": {"cdi.k8s.io/x": "vendor.com/gpu=all", "io.kubernetes.cri-o.LogPath": "/etc/shadow"},
    }
    config = {"rootfsImageRef": ID, "rootfsImageName": "busybox:latest", "rootfsImage": "busybox", "id": "x"}
    origin = parse("/a.tar", said(config, spec))
    assert (origin.image_id, origin.image_names) == (f"sha256:{ID}", ("busybox:latest", "busybox"))
    assert (origin.mounts, origin.terminal) == (("/data",), True)
    assert set(type(origin).__slots__) == {"image_id", "image_names", "mounts", "terminal"}


def test_older_ones_say_less() -> None:
    origin = parse("/a.tar", said({"rootfsImageName": "busybox"}, {}))
    assert (origin.image_id, origin.image_names, origin.mounts, origin.terminal) == ("", ("busybox",), (), False)


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (b"{}", b"{}"),
        (b"", b"{}"),
        (b'{"rootfsImage": 1}', b"{}"),
        (b'{"rootfsImage": "a", "rootfsImage": "b"}', b"{}"),
        (b'{"rootfsImage": "a"}', b'{"mounts": [{"type": "bind"}]}'),
        (b'{"rootfsImage": "a"}', b'{"mounts": {}}'),
        (b'{"rootfsImage": "a"}', b"[" * 100_000),
        (b'{"rootfsImage": "a"}', b"\xff"),
    ],
)
def test_what_does_not_read_is_refused(config: bytes, spec: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"checkpoint /a\.tar: "):
        parse("/a.tar", Descriptions(config=config, spec=spec))


@pytest.mark.parametrize(
    ("name", "allowed", "listed"),
    [
        ("reg.example/team/app:1", ("reg.example/team",), True),
        ("reg.example/team/app:1", ("reg.example/team/app",), True),
        ("reg.example/team/app:1", ("reg.example/team/app:1",), True),
        ("reg.example/team/app@sha256:00", ("reg.example/team/app",), True),
        ("reg.example/team/app:1", ("reg.example/",), True),
        ("reg.example/team/app:1", ("reg.example/te",), False),
        ("reg.example.evil.com/app:1", ("reg.example",), False),
        ("reg.example/team/app:10", ("reg.example/team/app:1",), False),
        ("reg.example/team/app:1", ("",), False),
        ("reg.example/team/app:1", (), False),
    ],
)
def test_images_are_listed_by_their_beginning(name: str, allowed: tuple[str, ...], listed: bool) -> None:
    assert is_listed((name,), allowed) is listed
