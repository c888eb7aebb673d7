"""The keys that cosign signs with."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kernel.errors import InvalidInput
from services.storage.trust import sigstore, verdict
from tests.harness.signing import SIGSTORE, CosignKey, document

ONE = f"sha256:{'1' * 64}"


def pem(private: rsa.RSAPrivateKey | dsa.DSAPrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
def test_a_signature_holds_for_its_own_bytes_alone(kind: str) -> None:
    key = CosignKey.make(kind)
    (read,) = sigstore.read([key.public])
    data = document(ONE, "example.com/app", SIGSTORE)
    signature = key.sign(data)
    assert read.verifies(signature, data)
    assert not read.verifies(signature, data + b" ")
    assert not read.verifies(signature[:-1], data)
    assert not read.verifies(b"", data)
    assert not read.verifies(CosignKey.make(kind).sign(data), data)


def test_any_key_of_any_file_may_have_signed() -> None:
    one, two, three = (CosignKey.make(kind) for kind in ("ecdsa", "rsa", "ed25519"))
    check = verdict.sigstore_check(sigstore.read([one.public + two.public, three.public]))
    for key in (one, two, three):
        assert check(key.cosign(ONE, "example.com/app")).digest == ONE
    with pytest.raises(InvalidInput, match="not made with a key of the policy"):
        check(CosignKey.make().cosign(ONE, "example.com/app"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no key",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        CosignKey.make().public.replace(b"\n", b"\nAA", 1),
        pem(rsa.generate_private_key(65537, 1024)),
        pem(dsa.generate_private_key(2048)),
    ],
)
def test_what_is_no_such_key_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="key"):
        sigstore.read([data])
