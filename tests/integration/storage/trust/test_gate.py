"""Verdicts with real keys, real signatures and the real child."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kernel.config.sections import Config, ImageSection
from kernel.contracts.oci import Signature
from kernel.contracts.storage import JudgeRequest
from kernel.errors import CrispError, Untrusted
from kernel.host import filters, process
from kernel.host.aio import Deadline, Tasks
from kernel.ids import Digest
from services.storage.confined import system_calls
from services.storage.trust import gate, verdict
from services.storage.trust.gate import Gate
from tests.harness.signing import CosignKey, Gpg, policy

ALICE, BOB = "alice@example.com", "bob@example.com"
ONE, TWO = (Digest(f"sha256:{number * 64}") for number in "12")
NAME = "example.com/app:v1"


class Node:
    """A gate with its files."""

    def __init__(self, folder: Path, gate: Gate) -> None:
        self.folder = folder
        self.gate = gate
        self.file = folder / "policy.json"

    def policy(self, text: str) -> None:
        self.file.write_text(text)

    def key(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)

    async def judge(
        self, *signatures: Signature, reference: str = NAME, namespace: str = "", digest: Digest = ONE
    ) -> str:
        """Why the image is refused; empty where it is accepted."""
        request = JudgeRequest(
            reference=reference, namespace=namespace, digests=(digest,), signatures=signatures
        )  # fmt: skip
        try:
            await self.gate.judge(request)
        except Untrusted as error:
            return str(error)
        return ""


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    tasks = Tasks()
    (tmp_path / "root" / "storage" / "layers").mkdir(parents=True)
    (tmp_path / "policies").mkdir()
    section = ImageSection(
        signature_policy=str(tmp_path / "policy.json"), signature_policy_dir=str(tmp_path / "policies")
    )
    made = Gate(Config(root=str(tmp_path / "root"), run="/none", image=section), tasks)
    yield Node(tmp_path, made)
    await tasks.close()
    made.close()


def by_gpg(**fields: object) -> dict[str, object]:
    return {"type": "signedBy", "keyType": "GPGKeys", **fields}


def by_cosign(**fields: object) -> dict[str, object]:
    return {"type": "sigstoreSigned", "signedIdentity": {"type": "matchRepository"}, **fields}


async def test_without_keys_the_policy_alone_decides(node: Node) -> None:
    node.policy(policy({"type": "insecureAcceptAnything"}))
    assert await node.judge() == ""
    node.policy(policy({"type": "reject"}, default="insecureAcceptAnything"))
    assert "image example.com/app:v1: default of transport docker of" in await node.judge()
    assert await node.judge(reference="") == ""


async def test_simple_signing(node: Node, gpg: Gpg) -> None:
    node.policy(policy(by_gpg(keyPath=node.key("alice.gpg", gpg.public(ALICE)))))
    good = gpg.simple(ALICE, ONE, NAME)
    assert "it has no such signature" in await node.judge()
    assert await node.judge(good) == ""
    assert await node.judge(gpg.simple(BOB, ONE, NAME), Signature(kind="simple", payload=b"garbage"), good) == ""
    assert "does not verify with a key of the policy" in await node.judge(gpg.simple(BOB, ONE, NAME))
    assert f"it is for the digest {ONE}" in await node.judge(good, digest=TWO)
    assert "it is for 'example.com/app:v1'" in await node.judge(good, reference="example.com/app:v2")
    assert await node.judge(good, reference=f"example.com/app@{ONE}") == ""
    both = gpg.public(ALICE, BOB)
    node.policy(policy(by_gpg(keyData=base64.b64encode(both).decode())))
    assert await node.judge(gpg.simple(BOB, ONE, NAME)) == ""
    paths = [node.key("alice.asc", gpg.public(ALICE, armour=True)), node.key("bob.gpg", gpg.public(BOB))]
    node.policy(policy(by_gpg(keyPaths=paths)))
    assert await node.judge(gpg.simple(BOB, ONE, NAME)) == ""


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
async def test_cosign(node: Node, kind: str) -> None:
    key, other = CosignKey.make(kind), CosignKey.make(kind)
    node.policy(policy(by_cosign(keyPath=node.key("cosign.pub", key.public))))
    good = key.cosign(ONE, "example.com/app")
    assert await node.judge(good) == ""
    assert "it was not made with a key of the policy" in await node.judge(other.cosign(ONE, "example.com/app"))
    assert f"it is for the digest {ONE}" in await node.judge(good, digest=TWO)
    assert "it is for 'example.com/app'" in await node.judge(good, reference="example.com/other:v1")
    forged = Signature(kind="sigstore", payload=good.payload, signature=b"\0" * 70)
    assert "it was not made with a key of the policy" in await node.judge(forged)


async def test_all_requirements_hold_together(node: Node, gpg: Gpg) -> None:
    key = CosignKey.make()
    node.policy(
        policy(
            by_gpg(keyPath=node.key("alice.gpg", gpg.public(ALICE))),
            by_gpg(keyPath=node.key("bob.gpg", gpg.public(BOB))),
            by_cosign(keyPath=node.key("cosign.pub", key.public)),
            {"type": "insecureAcceptAnything"},
        )
    )
    alice, bob, cosign = gpg.simple(ALICE, ONE, NAME), gpg.simple(BOB, ONE, NAME), key.cosign(ONE, "example.com/app")
    assert await node.judge(alice, bob, cosign) == ""
    for missing in ((alice, bob), (alice, cosign), (bob, cosign)):
        assert "requires a signature" in await node.judge(*missing)
    node.policy(policy(by_gpg(keyPath=str(node.folder / "alice.gpg")), {"type": "reject"}))
    assert "rejects it" in await node.judge(alice, bob, cosign)


async def test_a_change_of_policy_or_key_counts_at_once(node: Node) -> None:
    old, new = CosignKey.make(), CosignKey.make()
    path = node.key("cosign.pub", old.public)
    node.policy(policy(by_cosign(keyPath=path)))
    signature = old.cosign(ONE, "example.com/app")
    assert await node.judge(signature) == ""
    node.key("cosign.pub", new.public)
    assert "not made with a key" in await node.judge(signature)
    node.key("cosign.pub", old.public)
    assert await node.judge(signature) == ""
    node.policy(policy({"type": "reject"}))
    assert "rejects" in await node.judge(signature)


async def test_a_verdict_is_remembered_by_all_that_it_is_made_of(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    run = process.run

    async def counted(argv: list[str], **how: object) -> process.Completed:
        started.append(argv)
        return await run(argv, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(gate.process, "run", counted)
    key = CosignKey.make()
    node.policy(policy(by_cosign(keyPath=node.key("cosign.pub", key.public))))
    good, bad = key.cosign(ONE, "example.com/app"), CosignKey.make().cosign(ONE, "example.com/app")
    for _ in range(3):
        assert await node.judge(good) == ""
        assert await node.judge(bad) != ""
    assert len(started) == 2
    assert await node.judge(good, digest=TWO) != ""
    assert await node.judge(good, reference="example.com/app:v2") == ""
    assert len(started) == 4
    monkeypatch.setattr(gate, "_REMEMBERED_SECONDS", 0.0)  # keys expire
    assert await node.judge(good) == ""
    assert len(started) == 5


async def test_a_namespace_may_have_a_policy_of_its_own(node: Node) -> None:
    node.policy(policy({"type": "insecureAcceptAnything"}))
    (node.folder / "policies" / "strict.json").write_text(policy({"type": "reject"}))
    assert await node.judge(namespace="other") == ""
    assert "policies/strict.json rejects it" in await node.judge(namespace="strict")
    node.policy(policy({"type": "reject"}))
    (node.folder / "policies" / "open.json").write_text(policy({"type": "insecureAcceptAnything"}))
    assert await node.judge(namespace="open") == ""
    assert "rejects it" in await node.judge()
    for name in ("../policy", "/etc/passwd", "..", "a/b", "open.json/", "a\0b"):
        assert "no name of a namespace" in await node.judge(namespace=name)


async def test_a_policy_that_is_missing_or_broken_refuses(node: Node) -> None:
    assert "policy.json, is missing, so no image is accepted" in await node.judge()
    assert "insecureAcceptAnything" in await node.judge()
    for text in ("", "{}", "{", '{"default": [{"type": "accept"}]}'):
        node.policy(text)
        assert "policy.json, is broken: " in await node.judge()
    node.policy("x" * (2 << 20))
    assert "larger" in await node.judge()
    node.policy(policy({"type": "insecureAcceptAnything"}))
    node.file.chmod(0o666)
    assert "can be written by others than root" in await node.judge()
    node.file.chmod(0o644)
    os.chown(node.file, 65534, 65534)
    assert "can be written by others than root" in await node.judge()
    node.file.unlink()
    os.mkfifo(node.file)
    assert "not a plain file" in await node.judge()
    node.file.unlink()
    node.file.mkdir()
    assert "not a plain file" in await node.judge()
    own = node.folder / "policies" / "ns.json"
    own.symlink_to("/nowhere")
    assert "ns.json, is missing" in await node.judge(namespace="ns")


async def test_the_log_says_at_once_that_nothing_will_be_accepted(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    await node.gate.announce()
    assert "policy.json, is missing, so no image is accepted" in caplog.text
    caplog.clear()
    node.policy(policy({"type": "reject"}))
    await node.gate.announce()
    assert not caplog.text


async def test_a_key_that_is_missing_or_broken_refuses(node: Node, gpg: Gpg) -> None:
    cosign, simple = CosignKey.make().cosign(ONE, "example.com/app"), gpg.simple(ALICE, ONE, NAME)
    node.policy(policy(by_cosign(keyPath=str(node.folder / "none"))))
    assert "its key" in await node.judge(cosign)
    assert "cannot be read: No such file" in await node.judge(cosign)
    path = node.key("bad", b"no key")
    node.policy(policy(by_cosign(keyPath=path)))
    assert "no public key in PEM" in await node.judge(cosign)
    node.policy(policy(by_gpg(keyPath=path)))
    assert "no OpenPGP key" in await node.judge(simple)
    os.chmod(path, 0o666)
    assert "does not count" in await node.judge(simple)


@pytest.mark.parametrize("field", ["fulcio", "rekorPublicKeyPath"])
async def test_what_crisp_cannot_check_refuses_by_name(node: Node, field: str) -> None:
    given = {"fulcio": {"caPath": "/ca"}} if field == "fulcio" else {"keyPath": "/k", field: "/r"}
    node.policy(policy({"type": "sigstoreSigned", **given}, default="insecureAcceptAnything"))
    reason = await node.judge()
    assert field in reason
    assert "crisp cannot check that" in reason


async def test_many_signatures_are_judged_within_reason(node: Node) -> None:
    key = CosignKey.make()
    node.policy(policy(by_cosign(keyPath=node.key("cosign.pub", key.public))))
    others = [CosignKey.make("ed25519").cosign(ONE, "example.com/app") for _ in range(127)]
    assert await node.judge(*others, key.cosign(ONE, "example.com/app")) == ""
    assert "none of its 127 signatures counts" in await node.judge(*others)


async def test_a_packed_bomb_of_a_signature_is_no_signature(node: Node, gpg: Gpg) -> None:
    bomb = gpg.sign(ALICE, b" " * (100 << 20), "--compress-algo", "zlib", "-z", "9")
    assert len(bomb) < 1 << 20
    node.policy(policy(by_gpg(keyPath=node.key("alice.gpg", gpg.public(ALICE)))))
    with pytest.raises(CrispError):
        await node.gate.judge(
            JudgeRequest(
                reference=NAME, namespace="", digests=(ONE,), signatures=(Signature(kind="simple", payload=bomb),)
            )
        )


async def test_a_child_that_dies_accepts_nothing(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = CosignKey.make()
    node.policy(policy(by_cosign(keyPath=node.key("cosign.pub", key.public))))
    good = key.cosign(ONE, "example.com/app")
    request = JudgeRequest(reference=NAME, namespace="", digests=(ONE,), signatures=(good,))
    for script, word in (
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("print('[]')", "0 of 1"),
        ('print(\'["", ""]\')', "2 of 1"),
        ("print('yes')", "cannot be decoded"),
    ):
        program = tmp_path / "python"
        program.write_text(f"#!{sys.executable}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(gate.sys, "executable", str(program))
        with pytest.raises(CrispError, match=word):
            await node.gate.judge(request)
        monkeypatch.undo()
    assert await node.judge(good) == ""


async def test_what_the_child_says_is_words(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = CosignKey.make()
    node.policy(policy(by_cosign(keyPath=node.key("cosign.pub", key.public))))
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\nimport json\nprint(json.dumps(['no\\n\\x1b[31mINFO all is well' * 1000]))\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(gate.sys, "executable", str(program))
    said = await node.judge(key.cosign(ONE, "example.com/app"))
    assert "no??[31mINFO all is well" in said
    assert said.isprintable()
    assert len(said) < 2000


async def test_the_child_has_nothing_but_its_case(tmp_path: Path) -> None:
    script = tmp_path / "probe.py"
    script.write_text(f"""
import json, os, socket, sys
sys.argv[1:] = [{filters.allow_only(system_calls.JUDGE).hex()!r}, "simple", "sigstore"]
from services.storage.trust import verdict

def tried(what):
    try:
        what()
    except OSError as error:
        return error.strerror
    return "done"

def judge(case, checks):
    status = dict(line.split(":", 1) for line in before.splitlines())
    return [tried(lambda: os.open("/etc/passwd", os.O_RDONLY)), tried(lambda: socket.socket()),
            tried(lambda: os.fork()), tried(lambda: os.execv("/bin/true", ["true"])), tried(lambda: os.listdir("/"))]

before = ""
verdict.judge = judge
verdict.main()
""")
    case = verdict.Request(requirements=(), reference=NAME, digests=(), signatures=())
    ended = await process.run(
        [sys.executable, "-I", str(script)],
        deadline=Deadline.after(20),
        input=msgspec.msgpack.encode(case),
        cwd=str(tmp_path),
    )
    assert json.loads(ended.check().stdout) == ["Operation not permitted"] * 5
