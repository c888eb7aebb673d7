"""Whose images are run: policies, keys and signatures of others' tools, on a real daemon."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from deploy.demo_image import Image, Layer, archive, busybox_layer, image
from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import Cri, Pod, container_config, pod_config, refused
from tests.harness.daemon import ACCEPT_ALL, Daemon
from tests.harness.registry import Registry
from tests.harness.signing import CosignKey, Gpg, policy
from tests.integration.image.lying import Lying, reply

ALICE = "alice@example.com"
UNTRUSTED = grpc.StatusCode.UNKNOWN
ANY_TAG = {"signedIdentity": {"type": "matchRepository"}}


def fresh(*below: bytes) -> Image:
    """An image that nobody else has."""
    layer = Layer()
    layer.file("word", secrets.token_bytes(8))
    return image([*below, layer.tar()], {"Env": ["PATH=/bin"]})


class Node:
    """The daemon's files of trust."""

    def __init__(self, daemon: Daemon, registry: Registry, gpg: Gpg) -> None:
        self.daemon = daemon
        self.cri = daemon.cri
        self.registry = registry
        self.gpg = gpg
        self.cosign = CosignKey.make()
        (daemon.folder / "cosign.pub").write_bytes(self.cosign.public)
        (daemon.folder / "alice.gpg").write_bytes(gpg.public(ALICE))
        self.by_cosign = {"type": "sigstoreSigned", "keyPath": str(daemon.folder / "cosign.pub")}
        self.by_alice = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(daemon.folder / "alice.gpg")}

    @contextmanager
    def law(self, *requirements: dict[str, object], **scopes: list[dict[str, object]]) -> Iterator[None]:
        """A policy, and then the harness's own again, which accepts all."""
        self.daemon.policy.write_text(policy(*requirements, **scopes))
        try:
            yield
        finally:
            self.daemon.policy.write_text(ACCEPT_ALL)

    def places(self, **sections: object) -> None:
        """What registries.d says of the registry."""
        text = json.dumps({"docker": {self.registry.address: sections}})
        (self.daemon.containers / "registries.d" / "test.yaml").write_text(text)

    def push(self, repository: str, tag: str = "v1") -> tuple[Image, str]:
        """A fresh image in the registry, and its name."""
        built = fresh()
        self.registry.push(built, repository, tag)
        return built, f"{self.registry.address}/{repository}:{tag}"

    def untrusted(self, *words: str):
        """What the kubelet must be told."""
        return refused(UNTRUSTED, "SignatureValidationFailed: ", *words)

    def skopeo(self, *argv: str) -> None:
        """skopeo with GnuPG keys at hand."""
        done = subprocess.run(
            ["skopeo", "--insecure-policy", "--registries.d", str(self.daemon.containers / "registries.d"), *argv],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
            env={**os.environ, "GNUPGHOME": str(self.gpg.home)},
        )  # fmt: skip
        assert done.returncode == 0, f"skopeo {' '.join(argv)}: {done.stderr}"


@pytest.fixture(scope="module")
def gpg() -> Iterator[Gpg]:
    folder = Path(tempfile.mkdtemp(prefix="ctgpg-", dir="/tmp"))  # its agent's socket has a short path
    made = Gpg(folder / "home")
    try:
        made.key("alice")
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def node(daemon: Daemon, registry: Registry, gpg: Gpg) -> Node:
    return Node(daemon, registry, gpg)


def create(pod: Pod, spec: pb.ImageSpec, *command: str) -> str:
    """A container of an image, named as the kubelet does."""
    config = container_config("", *(command or ("true",)))
    config.image.CopyFrom(spec)
    return pod.cri.create(pod.id, config, pod.config)


def on_disk(daemon: Daemon) -> list[Path]:
    """Everything that images leave on disk."""
    folders = (daemon.root / "image" / "blobs", daemon.root / "storage" / "layers")
    return sorted(path for folder in folders for path in folder.rglob("*") if not path.is_dir())


def test_a_refused_pull_leaves_nothing(node: Node, cri: Cri, daemon: Daemon) -> None:
    before = on_disk(daemon)
    _, name = node.push("refused")
    with node.law({"type": "reject"}):
        with node.untrusted(name, "rejects it"):
            cri.pull(name)
        assert cri.image(name) is None
        assert on_disk(daemon) == before
    scope = f"{node.registry.address}/refused"
    rules = {scope: [{"type": "reject"}], "": [{"type": "insecureAcceptAnything"}]}
    with node.law(**rules), node.untrusted(f"scope '{scope}'"):
        cri.pull(name)
    cri.pull(name)


def test_a_missing_or_broken_policy_accepts_nothing(node: Node, cri: Cri, daemon: Daemon) -> None:
    _, name = node.push("unruled")
    with node.law():
        for text in ("{", '{"default": []}', '{"default": [{"type": "insecureAcceptAnything"}], "defualt": []}'):
            daemon.policy.write_text(text)
            with node.untrusted(str(daemon.policy), "is broken"):
                cri.pull(name)
        daemon.policy.unlink()
        with node.untrusted(str(daemon.policy), "is missing"):
            cri.pull(name)
    cri.pull(name)


def test_images_signed_with_gnupg_by_skopeo(node: Node, cri: Cri, daemon: Daemon) -> None:
    store = f"file://{daemon.containers}/lookaside"
    node.places(lookaside=store, sigstore=store)
    built, unsigned = node.push("simple", "unsigned")
    signed = f"{node.registry.address}/simple:signed"
    plain = ("copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{unsigned}", f"docker://{signed}")
    node.skopeo(*plain, "--sign-by", ALICE)
    with node.law(node.by_alice):
        reference = cri.pull(signed)
        with node.untrusted("it is for", signed):
            cri.pull(unsigned)  # the same bytes under another name
        assert cri.pull(f"{node.registry.address}/simple@{built.digest}") == reference
        _, other = node.push("simple", "other")
        with node.untrusted("it has no such signature"):
            cri.pull(other)
    with node.law({**node.by_alice, "signedIdentity": {"type": "exactReference", "dockerReference": signed}}):
        cri.pull(unsigned)
    bob = Gpg(node.gpg.home.parent / "bob")
    try:
        bob.key("bob")
        (daemon.folder / "bob.gpg").write_bytes(bob.public("bob@example.com"))
    finally:
        bob.close()
    with node.law({**node.by_alice, "keyPath": str(daemon.folder / "bob.gpg")}), node.untrusted("does not verify"):
        cri.pull(signed)


def test_verdicts_are_those_of_the_peers_tools(node: Node, cri: Cri, daemon: Daemon, tmp_path: Path) -> None:
    """skopeo judges by the library of Podman and CRI-O; it is given the same policies and signatures."""
    store = f"file://{daemon.containers}/lookaside"
    node.places(lookaside=store, sigstore=store)
    host = node.registry.address.partition(":")[0]
    repository = f"{node.registry.address}/team/app"
    built, unsigned = node.push("team/app", "unsigned")
    signed = f"{repository}:signed"
    plain = ("copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{unsigned}", f"docker://{signed}")
    node.skopeo(*plain, "--sign-by", ALICE)
    by_digest = f"{repository}@{built.digest}"
    accept, reject = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]

    def named(kind: str, **fields: str) -> list[dict[str, object]]:
        return [{**node.by_alice, "signedIdentity": {"type": kind, **fields}}]

    policies: list[dict[str, list[dict[str, object]]]] = [
        {"": [node.by_alice]},
        {"": named("matchExact")},
        {"": named("matchRepoDigestOrExact")},
        {"": named("matchRepository")},
        {"": named("exactReference", dockerReference=signed)},
        {"": named("exactReference", dockerReference=f"{repository}:other")},
        {"": named("exactRepository", dockerRepository=repository)},
        {"": named("exactRepository", dockerRepository=f"{repository}s")},
        {"": named("remapIdentity", prefix=node.registry.address, signedPrefix=node.registry.address)},
        {"": named("remapIdentity", prefix=f"{node.registry.address}/team", signedPrefix="vendor.example/team")},
        {"": named("remapIdentity", prefix=f"{node.registry.address}/tea", signedPrefix="vendor.example/tea")},
        {"": [node.by_alice, *reject]},
        {"": [node.by_alice, *accept]},
        {signed: accept},
        {repository: reject, signed: accept},
        {repository: accept, by_digest: reject},
        {f"{node.registry.address}/team": accept},
        {f"{node.registry.address}/tea": accept},
        {node.registry.address: accept, f"{node.registry.address}/team/app": reject},
        {host: accept},
        {"*.0.0.1": accept},
        {"*.0.1": accept, "*.1": reject},
        {"": accept, "*.0.0.1": reject},
        {"": []},
        {"": [{**node.by_alice, "keyData": "aaaa"}]},
        {"": [{"type": "signedBy", "keyPath": "/k"}]},
        {"": named("exactReference", dockerReference=repository)},
        {"*.": accept},
    ]
    different, accepted = [], 0
    for number, scopes in enumerate(policies):
        text = policy(**scopes)
        daemon.policy.write_text(text)
        (tmp_path / "policy.json").write_text(text)
        for name in (signed, unsigned, by_digest):
            done = subprocess.run(
                ["skopeo", "--policy", str(tmp_path / "policy.json"), "--registries.d",
                 str(daemon.containers / "registries.d"), "copy", "--src-tls-verify=false", f"docker://{name}",
                 f"dir:{tmp_path}/copy{number}"],
                capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                cri.pull(name)
                ours = ""
            except grpc.RpcError as error:
                ours = error.details()
            accepted += not ours
            if (done.returncode == 0) == bool(ours):
                different.append(f"{text}: {name}: skopeo {done.stderr or 'accepts'}, crisp {ours or 'accepts'}")
    daemon.policy.write_text(ACCEPT_ALL)
    assert not different, "\n".join(different)
    assert 20 < accepted < 3 * len(policies) - 20, accepted


def test_images_signed_as_cosign_does(node: Node, cri: Cri) -> None:
    node.places(**{"use-sigstore-attachments": True})
    built, name = node.push("cosigned")
    other, unsigned = node.push("cosigned", "v2")
    repository = f"{node.registry.address}/cosigned"
    node.registry.attach("cosigned", built.digest, CosignKey.make().cosign(built.digest, repository),
                         node.cosign.cosign(built.digest, repository))  # fmt: skip
    with node.law({**node.by_cosign, **ANY_TAG}):
        cri.pull(name)
        cri.pull(f"{repository}@{built.digest}")
        with node.untrusted("it has no such signature"):
            cri.pull(unsigned)
        # A good signature of another image, put where this one's would be.
        node.registry.attach("cosigned", other.digest, node.cosign.cosign(built.digest, repository))
        with node.untrusted(f"it is for the digest {built.digest}"):
            cri.pull(unsigned)
    with node.law(node.by_cosign):
        with node.untrusted("it is for"):
            cri.pull(name)  # cosign names no tag
        node.registry.attach("cosigned", built.digest, node.cosign.cosign(built.digest, name))
        cri.pull(name)  # others do
    with node.law({"type": "sigstoreSigned", "fulcio": {"caPath": "/ca"}}), node.untrusted("fulcio"):
        cri.pull(name)


def test_an_index_that_is_signed_covers_its_images(node: Node, cri: Cri) -> None:
    node.places(**{"use-sigstore-attachments": True})
    reference = node.registry.push_index({"amd64": fresh(), "arm64": fresh()}, "indexed", "v1")
    of = reference.rpartition("@")[2]
    name = f"{node.registry.address}/indexed"
    with node.law({**node.by_cosign, **ANY_TAG}):
        with node.untrusted("it has no such signature"):
            cri.pull(f"{name}:v1")
        node.registry.attach("indexed", of, node.cosign.cosign(of, name))
        cri.pull(f"{name}:v1")


def test_a_container_is_judged_by_the_policy_of_now(
    node: Node, cri: Cri, pods, busybox: Image, busybox_ref: str
) -> None:
    node.places(**{"use-sigstore-attachments": True})
    gone = Registry(node.daemon.folder / "gone")
    gone.start()
    name = f"{gone.address}/busybox"
    gone.push(busybox, "busybox", "v1")
    gone.attach("busybox", busybox.digest, node.cosign.cosign(busybox.digest, name))
    (node.daemon.containers / "registries.d" / "gone.yaml").write_text(
        json.dumps({"docker": {gone.address: {"use-sigstore-attachments": True}}})
    )
    cri.pull(f"{name}:v1")
    gone.stop()  # nobody is asked any more
    pod = pods()
    signed = pb.ImageSpec(image=busybox.id, user_specified_image=f"{name}:v1")
    with node.law({**node.by_cosign, **ANY_TAG}):
        running = create(pod, signed, "sleep", "60")
        cri.start(running)
        assert cri.output(running, "echo", "trusted") == "trusted\n"
        with node.untrusted(busybox_ref, "it is for"):
            create(pod, pb.ImageSpec(image=busybox_ref, user_specified_image=busybox_ref))
        create(pod, pb.ImageSpec(image=busybox.id))  # one of its names is accepted
    with node.law({"type": "reject"}):
        for spec in (signed, pb.ImageSpec(image=busybox.id), pb.ImageSpec(image=busybox_ref)):
            with node.untrusted("rejects it"):
                create(pod, spec)
        node.daemon.kill("storage")  # nor does anybody forget
        with node.untrusted("rejects it"):
            create(pod, signed)
    with node.law({**node.by_cosign, **ANY_TAG}):
        node.daemon.kill_all()
        node.daemon.start()
        create(pod, signed)
    assert len(cri.list_containers(pod_sandbox_id=pod.id)) == 3
    os.unlink(node.daemon.containers / "registries.d" / "gone.yaml")


def test_the_image_of_a_volume_is_judged_too(node: Node, cri: Cri, pod: Pod) -> None:
    _, name = node.push("volume")
    cri.pull(name)
    volume = pb.Mount(image=pb.ImageSpec(image=name), container_path="/image", readonly=True)
    scopes = {"": [{"type": "insecureAcceptAnything"}], f"{node.registry.address}/volume": [{"type": "reject"}]}
    with node.law(**scopes), node.untrusted(f"image {name}"):
        pod.create("true", mounts=[volume])
    pod.create("true", mounts=[volume])


def test_a_namespace_has_a_policy_of_its_own(node: Node, cri: Cri, daemon: Daemon, pods, busybox_ref: str) -> None:
    _, name = node.push("namespaced")
    own = daemon.containers / "policies" / "strict.json"
    own.write_text(policy({"type": "reject"}))
    metadata = pb.PodSandboxMetadata(name="strict", uid=secrets.token_hex(8), namespace="strict")
    strict = pods(pod_config(daemon.logs, metadata=metadata))
    with node.untrusted(f"of {own} rejects it"):
        cri.pull(name, sandbox_config=strict.config)
    cri.pull(name)
    with node.untrusted(str(own)):
        create(strict, pb.ImageSpec(image=busybox_ref))
    other = pods()
    other.create("true")
    with node.law({"type": "reject"}):
        own.write_text(ACCEPT_ALL)
        create(strict, pb.ImageSpec(image=busybox_ref))
        with node.untrusted(str(daemon.policy)):
            other.create("true")
    own.unlink()


def test_a_tag_that_moves_after_the_verdict_changes_nothing(node: Node, cri: Cri, daemon: Daemon) -> None:
    good, evil = fresh(), fresh()
    liar = Lying()
    try:
        liar.serve(evil, tag="evil")
        liar.serve(good, tag="v1")
        first = liar.routes["/v2/app/manifests/v1"]

        def moves(handler) -> None:
            first(handler)
            liar.routes["/v2/app/manifests/v1"] = reply(200, evil.manifest, {"Content-Type": evil.media_type})

        liar.routes["/v2/app/manifests/v1"] = moves
        name = f"{liar.address}/app"
        (daemon.containers / "registries.d" / "liar.yaml").write_text(
            json.dumps({"docker": {liar.address: {"lookaside": f"http://{liar.address}/store"}}})
        )
        signature = node.gpg.simple(ALICE, good.digest, f"{name}:v1").payload
        liar.routes[f"/store/app@sha256={good.digest.removeprefix('sha256:')}/signature-1"] = reply(200, signature)
        with node.law(node.by_alice):
            cri.pull(f"{name}:v1")
            assert cri.image(f"{name}:v1").id == good.id
            with node.untrusted("it has no such signature"):
                cri.pull(f"{name}:v1")
        assert cri.image(evil.id) is None
    finally:
        liar.close()
        os.unlink(daemon.containers / "registries.d" / "liar.yaml")


def test_a_store_that_is_away_is_a_reason_to_come_again(node: Node, cri: Cri) -> None:
    node.places(lookaside="http://127.0.0.1:9/store")
    _, name = node.push("away")
    with node.law(node.by_alice), refused(grpc.StatusCode.UNAVAILABLE, "it has no such signature", "127.0.0.1:9"):
        cri.pull(name)
    cri.pull(name)
    node.places()


def test_loaded_images_are_judged_by_their_names(node: Node, daemon: Daemon, pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(archive(fresh(busybox_layer().tar()), ["loaded.example/app:v1"]))
    with node.law({**node.by_cosign, **ANY_TAG}):
        daemon.command("image", "load", str(tmp_path / "image.tar"))
        with node.untrusted("image loaded.example/app:v1", "it has no such signature"):
            create(pod, pb.ImageSpec(image="loaded.example/app:v1"))
    create(pod, pb.ImageSpec(image="loaded.example/app:v1"))


def test_endless_signatures_are_refused(node: Node, cri: Cri, daemon: Daemon) -> None:
    built, name = node.push("endless")
    repository = f"{node.registry.address}/endless"
    node.places(**{"use-sigstore-attachments": True})
    keys = [CosignKey.make("ed25519").cosign(built.digest, repository) for _ in range(129)]
    node.registry.attach("endless", built.digest, *keys, node.cosign.cosign(built.digest, repository))
    with node.law({**node.by_cosign, **ANY_TAG}), node.untrusted("more than the 128"):
        cri.pull(name)
    node.registry.attach("endless", built.digest, *keys[:127], node.cosign.cosign(built.digest, repository))
    with node.law({**node.by_cosign, **ANY_TAG}):
        cri.pull(name)
