"""Archives that are saved: what is in them, and what does not get in."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from kernel.cli.commands.image_archive import OCI_TAR, DockerArchive, OciLayout, Part, Saved
from kernel.errors import Corrupt
from kernel.ids import Digest


def of(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def part(data: bytes) -> Part:
    return Part(OCI_TAR, of(data), len(data))


LOW, HIGH, CONFIG = b"low" * 1000, b"high" * 2000, b'{"rootfs":{}}'
IMAGE = Saved(("a.example/x:1", "b.example/y:2"), CONFIG, (part(LOW), part(HIGH), part(LOW)))


def members(data: bytes) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            assert member.name not in found
            source = tar.extractfile(member)
            assert source is not None
            found[member.name] = source.read()
    return found


def written(kind: type[OciLayout] | type[DockerArchive], *images: Saved) -> dict[str, bytes]:
    out = io.BytesIO()
    archive = kind(out)
    for data in (LOW, HIGH, LOW):
        archive.layer(part(data), io.BytesIO(data))
    archive.close(images)
    return members(out.getvalue())


def test_an_oci_layout_has_a_line_for_each_name() -> None:
    found = written(OciLayout, IMAGE)
    lines = json.loads(found["index.json"])["manifests"]
    assert [line["annotations"]["org.opencontainers.image.ref.name"] for line in lines] == list(IMAGE.tags)
    manifest = json.loads(found[f"blobs/sha256/{lines[0]['digest'][7:]}"])
    assert manifest["config"]["digest"] == of(CONFIG)
    assert [layer["digest"] for layer in manifest["layers"]] == [of(LOW), of(HIGH), of(LOW)]
    assert found[f"blobs/sha256/{of(LOW)[7:]}"] == LOW
    assert len(found) == 6  # layout, index, manifest, configuration, each layer once


def test_an_own_manifest_stays_as_it_is() -> None:
    own = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}).encode()
    found = written(OciLayout, Saved((), CONFIG, IMAGE.layers, own))
    (line,) = json.loads(found["index.json"])["manifests"]
    assert (line["digest"], line["mediaType"]) == (of(own), "application/vnd.docker.distribution.manifest.v2+json")
    assert "annotations" not in line
    assert found[f"blobs/sha256/{of(own)[7:]}"] == own


def test_a_docker_archive_lists_its_images() -> None:
    found = written(DockerArchive, IMAGE)
    (line,) = json.loads(found["manifest.json"])
    assert found[line["Config"]] == CONFIG
    assert [found[layer] for layer in line["Layers"]] == [LOW, HIGH, LOW]
    assert line["RepoTags"] == list(IMAGE.tags)


@pytest.mark.parametrize(
    ("data", "why"), [(LOW[:-1], "shorter"), (LOW + b"x", "longer"), (b"x" + LOW[1:], "have digest")]
)
def test_a_blob_that_is_not_what_it_is_called_ends_the_archive(data: bytes, why: str) -> None:
    for kind in (OciLayout, DockerArchive):
        with pytest.raises(Corrupt, match=why):
            kind(io.BytesIO()).layer(part(LOW), io.BytesIO(data))
