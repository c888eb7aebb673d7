"""The image worker's service without the bus, and the registries that it talks to."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.demo_image import Image, Layer, digest, image
from kernel.config.sections import Config, ImageSection
from kernel.contracts.definition import Message
from kernel.contracts.image import FetchRequest, Progress, Resolved, ResolveRequest, SignaturesRequest
from kernel.contracts.oci import Auth, Descriptor, Signature
from kernel.host.aio import Deadline
from kernel.ids import Digest
from services.image.methods import ImageService, create
from services.image.signatures import cosign
from tests.harness.registry import Registry
from tests.harness.signing import attachment
from tests.integration.image.lying import Lying, reply

CONFIG = "application/vnd.docker.container.image.v1+json"
SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass
class Call:
    """A call being served: a deadline, and the progress that was told."""

    deadline: Deadline = field(default_factory=lambda: Deadline.after(20))
    trace: str = ""
    told: list[Message] = field(default_factory=list)

    async def progress(self, message: Message) -> None:
        self.told.append(message)

    @property
    def done(self) -> list[int]:
        return [message.done for message in self.told if isinstance(message, Progress)]


class Worker:
    """A service with its folders below `root`, and short ways to ask it."""

    def __init__(self, config: Config, service: ImageService) -> None:
        self.config = config
        self.service = service

    async def resolve(self, reference: str, auth: Auth | None = None, call: Call | None = None) -> Resolved:
        return await self.service.resolve(ResolveRequest(reference=reference, auth=auth), call or Call())  # type: ignore[arg-type]

    async def fetch(
        self, name: str, blob: Descriptor | bytes, auth: Auth | None = None, call: Call | None = None
    ) -> bytes:
        """Fetch a blob, given by descriptor or content; what then lies in the folder."""
        if isinstance(blob, bytes):
            blob = Descriptor(media_type="x", digest=digest(blob), size=len(blob))
        await self.service.fetch(FetchRequest(reference=name, blob=blob, auth=auth), call or Call())  # type: ignore[arg-type]
        return self.config.paths.blob(blob.digest).read_bytes()

    async def pull(self, reference: str, expected: Image, auth: Auth | None = None) -> None:
        """Pull an image and check all that came."""
        found = await self.resolve(reference, auth)
        assert found.manifest_digest == expected.digest
        assert found.config == expected.config
        blobs = await asyncio.gather(*(self.fetch(reference, layer, auth) for layer in found.layers))
        assert tuple(blobs) == expected.layers

    def files(self) -> list[str]:
        """All files in the worker's folder but the archives."""
        root = Path(self.config.root) / "image"
        return sorted(
            str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "incoming" not in path.parts
        )

    def registries(self, text: str) -> None:
        """Write registries.conf."""
        Path(self.config.image.registries_conf).write_text(text)


@pytest_asyncio.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Callable[..., object]]:
    """Makes workers that differ in the section `image` of their configuration."""
    made: list[Worker] = []

    async def make(**section: object) -> Worker:
        root = tmp_path / f"root{len(made)}"
        (root / "image" / "incoming").mkdir(parents=True)
        settings = {
            "registries_conf": str(root / "registries.conf"),
            "certs_dir": str(root / "certs.d"),
            "progress_timeout": 5.0,
            "download_retries": 0,
            "platform": "linux/amd64",
        }
        config = Config(root=str(root), run=str(tmp_path / "run"), image=ImageSection(**(settings | section)))
        made.append(Worker(config, await create(config)))
        return made[-1]

    yield make
    for worker in made:
        await worker.service.close()


@pytest_asyncio.fixture
async def worker(workers) -> Worker:
    """A worker with a progress timeout of five seconds."""
    return await workers()


def layered(text: str) -> bytes:
    layer = Layer()
    layer.file("hello", text.encode() * 100)
    return layer.tar()


@pytest.fixture(scope="session")
def small() -> Image:
    """An OCI image of two small layers."""
    return image([layered("one"), layered("two")], {"Cmd": ["/hello"]})


@pytest.fixture(scope="session")
def docker_small() -> Image:
    """A Docker schema 2 image."""
    layer = gzip.compress(layered("docker"), mtime=0)
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest(layered("docker"))]}}
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": SCHEMA2,
        "config": {"mediaType": CONFIG, "digest": digest(config), "size": len(config)},
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "digest": digest(layer),
                "size": len(layer),
            }
        ],
    }
    return Image(manifest=json.dumps(manifest).encode(), config=config, layers=(layer,), media_type=SCHEMA2)


@pytest.fixture
def registries(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Starts real registries."""
    started: list[Registry] = []

    def start(**how: object) -> Registry:
        started.append(Registry(tmp_path / f"registry{len(started)}", **how))  # type: ignore[arg-type]
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def liars() -> Iterator[Callable[..., Lying]]:
    """Starts registries that can be told to lie."""
    started: list[Lying] = []

    def start(**how: object) -> Lying:
        started.append(Lying(**how))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def liar(liars, small: Image) -> Lying:
    """One that serves `app:latest`, honestly until told otherwise."""
    one = liars()
    one.serve(small)
    return one


MANIFEST = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}


@pytest.fixture
def signed(workers: Callable[..., object], tmp_path: Path) -> Callable[[str], object]:
    """Makes a worker whose registries.d says `text`, and a store on this host."""
    (tmp_path / "registries.d").mkdir()
    (tmp_path / "store").mkdir()

    async def make(text: str = "") -> Worker:
        (tmp_path / "registries.d" / "test.yaml").write_text(text)
        return await workers(registries_d=str(tmp_path / "registries.d"), lookaside_dirs=(str(tmp_path / "store"),))

    return make


async def signatures_of(worker: Worker, image: str, *of: str, **fields: object) -> tuple[Signature, ...]:
    request = SignaturesRequest(reference=image, digests=tuple(map(Digest, of)), **fields)  # type: ignore[arg-type]
    return (await worker.service.signatures(request, Call())).signatures  # type: ignore[arg-type]


def attach(liar: Lying, of: str, *given: Signature, repository: str = "app") -> None:
    manifest, blobs = attachment(*given)
    liar.routes[f"/v2/{repository}/manifests/{cosign.tag_of(Digest(of))}"] = reply(200, manifest, MANIFEST)
    for name, data in blobs.items():
        liar.routes[f"/v2/{repository}/blobs/{name}"] = reply(200, data)


ATTACHED = "default-docker: {use-sigstore-attachments: true}"
