"""The manifest of an index for a platform."""

from __future__ import annotations

import json

import pytest

from kernel.errors import FailedPrecondition
from services.image.documents import manifest, platforms, selection
from services.image.documents.manifest import Index
from services.image.documents.media_types import OCI_INDEX, OCI_MANIFEST
from services.image.documents.platforms import Platform


def read(document: object) -> object:
    return manifest.parse(json.dumps(document).encode(), "", "image x")


def blob(media_type: str, digest: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": 10}


def index(*platforms: str | None, media_type: str = OCI_INDEX) -> dict[str, object]:
    entries = []
    for at, text in enumerate(platforms):
        entry = blob(OCI_MANIFEST, digest=f"sha256:{at:064x}")
        if text is not None:
            os, architecture, *variant = text.split("/")
            entry["platform"] = {"os": os, "architecture": architecture, "os.version": "1"}
            if variant:
                entry["platform"]["variant"] = variant[0]
        entries.append(entry)
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}


@pytest.mark.parametrize(
    ("platform", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64/v8", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64/v1"], 1),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v4", "linux/amd64/v2"], 2),
        ("linux/arm64/v8", ["linux/arm64", "linux/arm64/v8"], 1),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], 1),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v6"], 1),
        ("linux/arm/v7", ["linux/arm"], 0),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], 0),
        ("linux/amd64", ["unknown/unknown", "linux/amd64"], 1),
        ("linux/s390x", ["linux/amd64", None], 1),
    ],
)
def test_chooses_a_platform(platform: str, offered: list[str | None], chosen: int) -> None:
    found = read(index(*offered))
    assert isinstance(found, Index)
    assert selection.choose(found, platforms.parse(platform), "x").digest == f"sha256:{chosen:064x}"


def test_no_manifest_for_the_platform_names_what_there_is() -> None:
    found = read(index("windows/amd64", "linux/arm/v7", "linux/amd64/v2"))
    assert isinstance(found, Index)
    with pytest.raises(FailedPrecondition, match="linux/amd64; it has linux/amd64/v2, linux/arm/v7, windows/amd64"):
        selection.choose(found, Platform(os="linux", architecture="amd64"), "x")
