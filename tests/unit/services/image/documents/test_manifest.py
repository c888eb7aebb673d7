"""Manifests, indexes and the choice of a platform."""

from __future__ import annotations

import json

import pytest

from kernel.errors import Corrupt, FailedPrecondition
from services.image.documents import manifest, media_types
from services.image.documents.manifest import Index, Manifest
from services.image.documents.media_types import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.unit.services.image.documents.test_selection import index

HEX = "0123456789abcdef" * 4
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def blob(media_type: str, size: int = 10, digest: str = f"sha256:{HEX}", **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def image(media_type: str = OCI_MANIFEST, config: str = OCI_CONFIG, **more: object) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": blob(config),
        "layers": [blob(media_types.LAYER_GZIP)],
        **more,
    }


def parse(document: object, content_type: str = "") -> Manifest | Index:
    return manifest.parse(json.dumps(document).encode(), content_type, "image x")


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (image(), OCI_MANIFEST),
        (image(), f"{OCI_MANIFEST}; charset=utf-8"),
        (image(), "application/json"),
        (image(media_type=""), ""),
        (image(DOCKER_MANIFEST, DOCKER_CONFIG, layers=[blob(DOCKER_LAYER)]), DOCKER_MANIFEST),
        (image(layers=[blob(media_types.LAYER_TAR), blob(media_types.LAYER_ZSTD)]), OCI_MANIFEST),
        (image(layers=[blob(media_types.LAYER_GZIP, urls=["http://evil/"], data="AAAA")]), OCI_MANIFEST),
        (image(annotations={"a": "b"}, subject=blob(OCI_MANIFEST)), OCI_MANIFEST),
    ],
)
def test_reads_manifests(document: dict[str, object], content_type: str) -> None:
    found = parse(document, content_type)
    assert isinstance(found, Manifest)
    assert found.config.digest == f"sha256:{HEX}"
    assert [layer.size for layer in found.layers] == [10] * len(found.layers)


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_INDEX])
def test_reads_indexes(media_type: str) -> None:
    assert isinstance(parse(index("linux/amd64", media_type=media_type), media_type), Index)


@pytest.mark.parametrize(
    "document",
    [
        {**image(), "manifests": []},
        {**image(), "schemaVersion": 3},
        {**image(), "schemaVersion": "2"},
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": []},
        {"schemaVersion": 2, "mediaType": OCI_INDEX},
        image(layers=[blob(media_types.LAYER_GZIP, size=-1)]),
        image(layers=[blob(media_types.LAYER_GZIP, size=1.5)]),  # type: ignore[arg-type]
        image(layers=[blob(media_types.LAYER_GZIP, size=2**63)]),
        image(layers=[blob(media_types.LAYER_GZIP, digest="sha256:../../x")]),
        image(layers=[blob(media_types.LAYER_GZIP, digest=f"sha256:{HEX.upper()}")]),
        image(layers=None),
        image(Layers=[]),
        [],
    ],
)
def test_refuses_the_malformed(document: object) -> None:
    with pytest.raises(Corrupt, match="image x"):
        parse(document)


@pytest.mark.parametrize(
    "document",
    [
        {"schemaVersion": 1, "fsLayers": []},
        image(config="application/vnd.oci.empty.v1+json", artifactType="application/x"),
        image(layers=[blob("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")]),
        image(layers=[blob("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")]),
        image(layers=[blob("application/octet-stream")]),
        image(layers=[blob(media_types.LAYER_GZIP)] * 501),
        image(media_type="application/vnd.example+json"),
        index(*["linux/amd64"] * 1001),
        {**image(), "config": blob(OCI_CONFIG, size=5 << 20)},
    ],
)
def test_refuses_what_is_not_run(document: object) -> None:
    with pytest.raises(FailedPrecondition, match="image x"):
        parse(document)


def test_refuses_a_content_type_that_disagrees() -> None:
    with pytest.raises(Corrupt, match="sent as"):
        parse(image(), OCI_INDEX)
    with pytest.raises(FailedPrecondition, match="schema 1"):
        parse(image(), "application/vnd.docker.distribution.manifest.v1+prettyjws")
    with pytest.raises(FailedPrecondition, match="not supported"):
        parse(image(media_type=""), "text/html")


def test_refuses_the_large() -> None:
    with pytest.raises(Corrupt, match="larger"):
        manifest.parse(b" " * ((4 << 20) + 1), "", "image x")


FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def test_foreign_and_encrypted_layers() -> None:
    data = json.dumps(image(layers=[blob(FOREIGN, urls=["http://evil/"])])).encode()
    with pytest.raises(FailedPrecondition, match=r"foreign.*image\.foreign_layers"):
        manifest.parse(data, OCI_MANIFEST, "x")
    found = manifest.parse(data, OCI_MANIFEST, "x", foreign=True)
    assert isinstance(found, Manifest)
    assert found.layers[0].media_type == FOREIGN
    for kind in (f"{media_types.LAYER_GZIP}+encrypted", f"{FOREIGN}+encrypted"):
        with pytest.raises(FailedPrecondition, match="encrypted, which crisp does not"):
            manifest.parse(json.dumps(image(layers=[blob(kind)])).encode(), OCI_MANIFEST, "x", foreign=True)
