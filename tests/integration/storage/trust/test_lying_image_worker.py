"""An image worker that was taken over, before the real front's steps and the real gate: no unsigned image gets by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from kernel.config.sections import Config, ImageSection
from kernel.contracts import image, storage
from kernel.contracts.definition import Message, Nothing
from kernel.contracts.records import Image
from kernel.cri.generated import cri_pb2
from kernel.errors import Corrupt, CrispError, Untrusted
from kernel.front.context import Front
from kernel.front.images import admission, load_flow, pulls
from kernel.ids import ImageId
from services.storage.trust.gate import Gate
from tests.harness.fakes.image_workers import Workers, a_call, make_front
from tests.harness.signing import CosignKey, policy

GOOD, EVIL = "a.example/app:v1", "a.example/app:v2"
DEADLINE = a_call().deadline


class Judged(Workers):
    """Fake workers, but for the gate."""

    gate: Gate

    async def call(self, method, request: Message, **how) -> Message:
        if isinstance(request, storage.JudgeRequest):
            await self.gate.judge(request)
            return Nothing()
        return await super().call(method, request, **how)


class Scene:
    """A signed image and one that nobody has signed, both in the registry."""

    def __init__(self, folder: Path, workers: Judged, front: Front) -> None:
        self.workers, self.front = workers, front
        self.policy = folder / "policy.json"
        key = CosignKey.make()
        (folder / "cosign.pub").write_bytes(key.public)
        self.strict = policy(
            {"type": "sigstoreSigned", "keyPath": str(folder / "cosign.pub"),
             "signedIdentity": {"type": "matchRepository"}},
            **{"loose.example": [{"type": "insecureAcceptAnything"}]},
        )  # fmt: skip
        self.policy.write_text(self.strict)
        self.good = workers.registry.push(GOOD, "good", config={"Env": ["A=good"]})
        self.evil = workers.registry.push(EVIL, "evil", config={"Env": ["A=evil"]})
        self.signature = key.cosign(self.good.manifest_digest, "a.example/app")
        workers.signatures = (self.signature,)

    async def pull(self, name: str) -> Image:
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=name))
        reply = await pulls.pull_image(self.front, request, a_call())
        return self.front.replica.images[ImageId(reply.image_ref)]  # type: ignore[arg-type]

    def answer(self, name: str, resolved: image.Resolved) -> None:
        self.workers.registry.images[name] = resolved


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    (tmp_path / "root" / "storage" / "layers").mkdir(parents=True)
    workers = Judged()
    front = make_front(workers)
    section = ImageSection(signature_policy=str(tmp_path / "policy.json"), signature_policy_dir="")
    workers.gate = Gate(Config(root=str(tmp_path / "root"), image=section), front.tasks)
    yield Scene(tmp_path, workers, front)
    await front.tasks.close()
    workers.gate.close()


async def test_the_truth_is_accepted(scene: Scene) -> None:
    found = await scene.pull(GOOD)
    await admission.at_create(scene.front, found, GOOD, "", DEADLINE)


async def test_another_images_signature_does_not_help(scene: Scene) -> None:
    with pytest.raises(Untrusted, match="it is for the digest"):
        await scene.pull(EVIL)


@pytest.mark.parametrize("claims", [("digest",), ("manifest_digest",), ("digest", "manifest_digest")])
async def test_a_claimed_digest_does_not_help(scene: Scene, claims: tuple[str, ...]) -> None:
    scene.answer(GOOD, replace(scene.evil, **{claim: getattr(scene.good, claim) for claim in claims}))
    with pytest.raises(Corrupt):
        await scene.pull(GOOD)


@pytest.mark.parametrize(
    "parts", [("config",), ("layers",), ("config", "layers"), ("documents",), ("documents", "config")]
)
async def test_parts_of_another_image_do_not_help(scene: Scene, parts: tuple[str, ...]) -> None:
    scene.answer(GOOD, replace(scene.good, **{part: getattr(scene.evil, part) for part in parts}))
    with pytest.raises(CrispError):
        await scene.pull(GOOD)
    assert not scene.front.replica.images


async def test_the_signed_manifest_beside_another_does_not_help(scene: Scene) -> None:
    documents = (*scene.good.documents, *scene.evil.documents)
    both = replace(scene.evil, documents=documents, digest=scene.good.digest)
    scene.answer(EVIL, both)
    with pytest.raises(Corrupt):
        await scene.pull(EVIL)


async def test_what_was_pulled_where_anything_goes_is_judged_by_that_name(scene: Scene) -> None:
    scene.answer("loose.example/x:1", scene.evil)
    found = await scene.pull("loose.example/x:1")
    assert found.signatures == (scene.signature,)  # worth nothing
    await admission.at_create(scene.front, found, "loose.example/x:1", "", DEADLINE)
    scene.policy.write_text(scene.strict.replace("loose.example", "other.example"))
    for asked in ("loose.example/x:1", GOOD, EVIL, found.id):
        with pytest.raises(Untrusted):
            await admission.at_create(scene.front, found, asked, "", DEADLINE)


async def test_an_archive_cannot_lend_a_digest(scene: Scene) -> None:
    """`crisp image load` believes the worker's word for the manifest's digest; no verdict is made of it."""
    scene.workers.archive = (
        image.LoadedImage(
            names=(GOOD,),
            manifest_digest=scene.good.manifest_digest,
            config=scene.evil.config,
            layers=scene.evil.layers,
        ),
    )
    await load_flow.load(scene.front, "archive.tar", DEADLINE)
    (found,) = scene.front.replica.images.values()
    assert scene.good.manifest_digest in found.manifest_digests
    lent = replace(found, signatures=(scene.signature,))
    for asked in (GOOD, found.id):
        with pytest.raises(Untrusted, match="it is for the digest"):
            await admission.at_create(scene.front, lent, asked, "", DEADLINE)
