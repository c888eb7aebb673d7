"""`crisp image load`: OCI layouts and docker archives, well-formed and hostile."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile

import pytest

from deploy.demo_image import Image, Layer, archive, digest, image
from kernel.contracts.image import Loaded, LoadRequest
from kernel.errors import Corrupt, CrispError, FailedPrecondition, InvalidInput, NotFound
from services.image.documents import media_types
from tests.integration.image.conftest import Call, Worker, layered


async def load(worker: Worker, data: bytes | None, name: str = "image.tar") -> Loaded:
    if data is not None:
        (worker.config.paths.incoming / name).write_bytes(data)
    return await worker.service.load(LoadRequest(archive=name), Call())  # type: ignore[arg-type]


def docker_archive(small: Image, **change: object) -> bytes:
    """What `docker save` wrote before it wrote OCI layouts: plain layers, a link for one that comes twice."""
    plain = [gzip.decompress(layer) for layer in small.layers]
    config = small.config
    entry = {"Config": f"{small.id[7:]}.json", "RepoTags": ["app:v1", "quay.io/a/b:c"],
             "Layers": ["1/layer.tar", "2/layer.tar"]}  # fmt: skip
    out = Layer()
    out.file(f"{small.id[7:]}.json", config)
    out.file("1/layer.tar", plain[0])
    out.file("real/layer.tar", plain[1])
    out.symlink("2/layer.tar", "../real/layer.tar")
    out.file("manifest.json", json.dumps([entry | change]).encode())
    return out.tar()


async def test_an_oci_layout(worker: Worker, small: Image) -> None:
    loaded = await load(worker, archive(small, ["docker.io/library/app:v1", "localhost/app"]))
    (found,) = loaded.images
    assert found.names == ("docker.io/library/app:v1", "localhost/app:latest")
    assert (found.manifest_digest, found.config) == (small.digest, small.config)
    assert tuple(worker.config.paths.blob(layer.digest).read_bytes() for layer in found.layers) == small.layers
    assert len(worker.files()) == 2  # the layers alone
    assert (await load(worker, None)).images == loaded.images
    assert (worker.config.paths.incoming / "image.tar").exists()


async def test_a_layout_with_an_index_and_a_bare_tag(worker: Worker, small: Image) -> None:
    other = image([layered("arm")])
    entries = [
        {"mediaType": one.media_type, "digest": one.digest, "size": len(one.manifest),
         "platform": {"os": "linux", "architecture": architecture}}
        for architecture, one in (("arm64", other), ("amd64", small))
    ]  # fmt: skip
    inner = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    outer = {"mediaType": media_types.OCI_INDEX, "digest": digest(inner), "size": len(inner),
             "annotations": {"org.opencontainers.image.ref.name": "v1"}}  # fmt: skip
    out = Layer()
    out.file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    out.file("index.json", json.dumps({"schemaVersion": 2, "manifests": [outer]}).encode())
    for blob in (inner, small.manifest, small.config, *small.layers):
        out.file(f"blobs/sha256/{digest(blob)[7:]}", blob)
    (found,) = (await load(worker, out.tar())).images
    assert (found.names, found.manifest_digest) == ((), small.digest)


async def test_a_docker_archive(worker: Worker, small: Image) -> None:
    (found,) = (await load(worker, docker_archive(small))).images
    assert found.names == ("docker.io/library/app:v1", "quay.io/a/b:c")
    assert (found.manifest_digest, found.config) == (None, small.config)
    assert [layer.media_type for layer in found.layers] == [media_types.LAYER_TAR] * 2
    plain = [gzip.decompress(layer) for layer in small.layers]
    assert [worker.config.paths.blob(layer.digest).read_bytes() for layer in found.layers] == plain


def flipped(small: Image) -> bytes:
    """A layout whose second layer has one byte wrong."""
    data = bytearray(archive(small, []))
    data[bytes(data).index(small.layers[1]) + 30] ^= 1
    return bytes(data)


def cut(small: Image) -> bytes:
    """A layout that ends within its last layer."""
    data = archive(small, [])
    return data[: data.index(small.layers[1]) + 30]


def without(name: str, small: Image) -> bytes:
    """A layout without one of its files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive(small, []))) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            if name not in member.name:
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
    return out.getvalue()


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (flipped, Corrupt, "have digest"),
        (cut, InvalidInput, "ends within"),
        (lambda small: b"no tar at all", InvalidInput, "no tar"),
        (lambda small: gzip.compress(archive(small, [])), InvalidInput, "decompress it first"),
        (lambda small: without("index.json", small), InvalidInput, "neither"),
        (lambda small: without(small.digest[7:], small), InvalidInput, "has no file"),
        (lambda small: without(digest(small.layers[1])[7:], small), Corrupt, "is missing"),
        (lambda small: archive(small, ["Not/A:Reference"]), InvalidInput, "reference"),
        (lambda small: docker_archive(small, Layers=["1/layer.tar"]), Corrupt, "diff ids"),
        (lambda small: docker_archive(small, Layers=["1/layer.tar", "../../etc/shadow"]), InvalidInput, "has no file"),
        (lambda small: docker_archive(small, Config="/etc/passwd"), InvalidInput, "has no file"),
        (lambda small: docker_archive(small, RepoTags=["a//b"]), InvalidInput, "reference"),
        (lambda small: docker_archive(small, Layers=["x"] * 501), FailedPrecondition, "501|500"),
        (lambda small: docker_archive(small, Layers="x"), InvalidInput, "manifest.json"),
    ],
)  # fmt: skip
async def test_a_bad_archive_leaves_nothing(
    worker: Worker, small: Image, make, error: type[CrispError], reason: str
) -> None:
    with pytest.raises(error, match=reason) as caught:
        await load(worker, make(small))
    assert "image.tar" in str(caught.value)
    assert worker.files() == []


async def test_only_regular_files_of_the_folder(worker: Worker) -> None:
    incoming = worker.config.paths.incoming
    (incoming / "link").symlink_to("/etc/passwd")
    os.mkfifo(incoming / "fifo")
    (incoming / "folder").mkdir()
    for name in ("link", "fifo", "folder", "../blobs/x", "/etc/passwd", "", ".", "..", "a\n", "a/b"):
        with pytest.raises(InvalidInput):
            await load(worker, None, name)
    with pytest.raises(NotFound):
        await load(worker, None, "nothing.tar")
