"""Manifests, indexes and the choice of a platform."""

from __future__ import annotations

import json

import pytest

from kernel.errors import Corrupt, FailedPrecondition, InvalidInput
from services.image.documents import manifest
from services.image.documents.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    Manifest,
    Platform,
)

HEX = "0123456789abcdef" * 4
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

AMD64 = Platform(os="linux", architecture="amd64")


def blob(media_type: str, size: int = 10, digest: str = f"sha256:{HEX}", **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def image(media_type: str = OCI_MANIFEST, config: str = OCI_CONFIG, **more: object) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": blob(config),
        "layers": [blob(manifest.LAYER_GZIP)],
        **more,
    }


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
        (image(layers=[blob(manifest.LAYER_TAR), blob(manifest.LAYER_ZSTD)]), OCI_MANIFEST),
        (image(layers=[blob(manifest.LAYER_GZIP, urls=["http://evil/"], data="AAAA")]), OCI_MANIFEST),
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
        image(layers=[blob(manifest.LAYER_GZIP, size=-1)]),
        image(layers=[blob(manifest.LAYER_GZIP, size=1.5)]),  # type: ignore[arg-type]
        image(layers=[blob(manifest.LAYER_GZIP, size=2**63)]),
        image(layers=[blob(manifest.LAYER_GZIP, digest="sha256:../../x")]),
        image(layers=[blob(manifest.LAYER_GZIP, digest=f"sha256:{HEX.upper()}")]),
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
        image(layers=[blob(manifest.LAYER_GZIP)] * 501),
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
    found = parse(index(*offered))
    assert isinstance(found, Index)
    assert manifest.choose(found, manifest.parse_platform(platform), "x").digest == f"sha256:{chosen:064x}"


def test_no_manifest_for_the_platform_names_what_there_is() -> None:
    found = parse(index("windows/amd64", "linux/arm/v7", "linux/amd64/v2"))
    assert isinstance(found, Index)
    with pytest.raises(FailedPrecondition, match="linux/amd64; it has linux/amd64/v2, linux/arm/v7, windows/amd64"):
        manifest.choose(found, Platform(os="linux", architecture="amd64"), "x")


@pytest.mark.parametrize("text", ["", "linux", "linux/", "linux/a/b/c", "linux/amd64 ", "linux/٣"])
def test_refuses_platforms(text: str) -> None:
    with pytest.raises(InvalidInput):
        manifest.parse_platform(text)


def test_host_platforms() -> None:
    assert str(manifest.host_platform("x86_64")) == "linux/amd64"
    assert str(manifest.host_platform("armv7l")) == "linux/arm/v7"
    assert str(manifest.host_platform("riscv64")) == "linux/riscv64"


@pytest.mark.parametrize(
    "config",
    [
        {"rootfs": {"type": "layers", "diff_ids": []}},
        {"rootfs": {"type": "other", "diff_ids": [f"sha256:{HEX}"]}},
        {"rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}},
        {"rootfs": {"type": "layers"}},
        {},
    ],
)
def test_a_configuration_lists_one_diff_id_per_layer(config: object) -> None:
    with pytest.raises(Corrupt):
        manifest.check_config(json.dumps(config).encode(), 1, AMD64, "x")


@pytest.mark.parametrize(
    ("of", "runs"),
    [
        ({}, True), ({"os": "linux", "architecture": "amd64"}, True), ({"architecture": "arm64"}, False),
        ({"os": "windows"}, False), ({"os": "linux", "architecture": "amd64", "created": "300000-01-01"}, True),
    ],
)  # fmt: skip
def test_a_configuration_for_other_machines_is_refused(of: dict[str, str], runs: bool) -> None:
    config = json.dumps({**of, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]}}).encode()
    if runs:
        manifest.check_config(config, 1, AMD64, "x")
    else:
        with pytest.raises(FailedPrecondition, match="not for linux/amd64"):
            manifest.check_config(config, 1, AMD64, "x")


FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def test_foreign_and_encrypted_layers() -> None:
    data = json.dumps(image(layers=[blob(FOREIGN, urls=["http://evil/"])])).encode()
    with pytest.raises(FailedPrecondition, match=r"foreign.*image\.foreign_layers"):
        manifest.parse(data, OCI_MANIFEST, "x")
    found = manifest.parse(data, OCI_MANIFEST, "x", foreign=True)
    assert isinstance(found, Manifest)
    assert found.layers[0].media_type == FOREIGN
    for kind in (f"{manifest.LAYER_GZIP}+encrypted", f"{FOREIGN}+encrypted"):
        with pytest.raises(FailedPrecondition, match="encrypted, which crisp does not"):
            manifest.parse(json.dumps(image(layers=[blob(kind)])).encode(), OCI_MANIFEST, "x", foreign=True)
