"""Fakes of the image and storage workers and of the supervisor, with the state that the real ones would have."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable

from kernel.config.sections import Config, ImageSection
from kernel.contracts import image, storage
from kernel.contracts.definition import Message, Method, Nothing
from kernel.contracts.oci import Descriptor, Signature
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2
from kernel.errors import CrispError, NotFound
from kernel.front.context import Call, Front
from kernel.front.images import image_queries, pulls, removal
from kernel.host.aio import Deadline
from kernel.ids import DiffId, Digest
from tests.harness.fakes.front import assemble

BUSYBOX = "docker.io/library/busybox:latest"


def digest_of(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


class Registry:
    """Images by reference, each made of named layers."""

    def __init__(self) -> None:
        self.images: dict[str, image.Resolved] = {}

    def push(self, reference: str, *layers: str, config: dict[str, object] | None = None) -> image.Resolved:
        diff_ids = [digest_of(f"diff {name}".encode()) for name in layers]
        document = {"os": "linux", "config": config or {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        data = json.dumps(document).encode()
        name, _, tag = reference.rpartition(":")
        blobs = tuple(
            Descriptor(
                media_type="application/vnd.oci.image.layer.v1.tar+gzip",
                digest=digest_of(f"blob {layer}".encode()),
                size=100,
            )
            for layer in layers
        )
        described = [{"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size} for blob in blobs]
        configured = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(data),
            "size": len(data),
        }
        written = json.dumps({"schemaVersion": 2, "config": configured, "layers": described}).encode()
        manifest = digest_of(written)
        self.images[reference] = image.Resolved(
            name=name,
            tag=tag,
            digest=manifest,
            manifest_digest=manifest,
            documents=(written,),
            config=data,
            layers=blobs,
        )
        self.images[f"{name}@{manifest}"] = self.images[reference]
        return self.images[reference]


class Workers:
    """Every worker behind one `call`; `fail` makes a method raise, `hold` makes it wait, `calls` records all calls."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.blobs: set[Digest] = set()
        self.layers: set[DiffId] = set()
        self.damaged: set[DiffId] = set()
        self.calls: list[tuple[str, Message]] = []
        self.fail: dict[str, Callable[[Message], CrispError | None]] = {}
        self.hold: dict[str, asyncio.Event] = {}
        self.archive: tuple[image.LoadedImage, ...] = ()
        self.commits: list[Commit] = []
        self.signatures: tuple[Signature, ...] = ()

    def count(self, name: str) -> int:
        return sum(1 for called, _ in self.calls if called == name)

    async def call(
        self,
        method: Method[Message, Message],
        request: Message,
        *,
        deadline: Deadline | None = None,
        on_progress: Callable[[Message], None] | None = None,
    ) -> Message:
        self.calls.append((method.name, request))
        if method.name in self.hold:
            await self.hold[method.name].wait()
        await asyncio.sleep(0)
        error = self.fail[method.name](request) if method.name in self.fail else None
        if error:
            raise error
        if method is image.FETCH and on_progress and isinstance(request, image.FetchRequest):
            on_progress(image.Progress(digest=request.blob.digest, done=50, total=100))
        return self._answer(request, method.name)

    def _answer(self, request: Message, name: str) -> Message:
        match request:
            case image.ResolveRequest():
                if request.reference not in self.registry.images:
                    raise NotFound(f"{request.reference} is at no registry")
                return self.registry.images[request.reference]
            case image.SignaturesRequest():
                return image.Signatures(signatures=self.signatures)
            case storage.JudgeRequest():
                pass
            case image.FetchRequest():
                self.blobs.add(request.blob.digest)
            case image.KeepRequest():
                self.blobs.update(digest_of(data) for data in request.documents)
            case image.DropRequest():
                self.blobs.difference_update(request.digests)
            case image.LoadRequest():
                self.blobs.update(blob.digest for found in self.archive for blob in found.layers)
                return image.Loaded(images=self.archive)
            case storage.UnpackRequest():
                if request.layer.diff_id not in self.layers and request.layer.blob.digest not in self.blobs:
                    raise NotFound(f"blob {request.layer.blob.digest} is not in the blob folder")
                self.layers.add(request.layer.diff_id)
                return storage.Usage(bytes=1000, inodes=10)
            case storage.CheckRequest():
                if request.diff_id not in self.layers:
                    return storage.Checked(state=storage.LayerState.MISSING, why="it is not unpacked")
                if request.diff_id not in self.damaged:
                    return storage.Checked(state=storage.LayerState.WHOLE)
                if request.drop:
                    self.damaged.discard(request.diff_id)
                    self.layers.discard(request.diff_id)
                return storage.Checked(state=storage.LayerState.DAMAGED, why="a byte")
            case Nothing() if name == storage.SETTLE.name:
                return Nothing()
            case storage.LayerRequest():
                self.layers.discard(request.diff_id)
            case Commit():
                self.commits.append(request)
            case Nothing() if name == storage.LAYERS.name:
                return storage.Layers(layers=dict.fromkeys(self.layers, storage.Usage(bytes=1000, inodes=10)))
            case Nothing() if name == storage.FS_INFO.name:
                usage = storage.Usage(bytes=1000 * len(self.layers), inodes=10)
                return storage.FsInfo(
                    images_mountpoint="/i", images=usage, containers_mountpoint="/c", containers=usage
                )
            case _:
                raise AssertionError(f"{name} is not faked")
        return Nothing()


def make_front(workers: Workers, *, pinned: tuple[str, ...] = (), registries_conf: str = "/none") -> Front:
    """Make a front without records."""
    return assemble(workers, Config(image=ImageSection(pinned=pinned, registries_conf=registries_conf)), "boot")


async def listed(front: Front, request: cri_pb2.ListImagesRequest | None = None) -> cri_pb2.ListImagesResponse:
    """Return the answer of ListImages."""
    said = await image_queries.list_images(front, request or cri_pb2.ListImagesRequest(), a_call("ListImages"))
    return cri_pb2.ListImagesResponse.FromString(said)


def a_call(rpc: str = "PullImage") -> Call:
    return Call(rpc=rpc, deadline=Deadline.after(5), trace="t")


async def pull(front: Front, name: str = "busybox", **auth: str) -> str:
    request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=name), auth=cri_pb2.AuthConfig(**auth))
    return (await pulls.pull_image(front, request, a_call())).image_ref


async def status(front: Front, name: str, *, verbose: bool = False) -> cri_pb2.ImageStatusResponse:
    request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=name), verbose=verbose)
    return await image_queries.image_status(front, request, a_call("ImageStatus"))


async def remove(front: Front, name: str) -> None:
    request = cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=name))
    await removal.remove_image(front, request, a_call("RemoveImage"))


def documents(front: Front) -> set[str]:
    """Return the digests of the configurations and manifests of the images on this node."""
    return {blob for found in front.replica.images.values() for blob in (found.id, *found.manifest_digests)}


def assert_nothing_left(front: Front, workers: Workers) -> None:
    assert workers.layers == set()
    assert workers.blobs == set()
    assert front.replica.images == {}
    assert front.replica.intents == {}
    assert front.images.pulls == {}
