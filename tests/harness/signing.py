"""Signatures made by other tools: GnuPG for simple signing, and keys in cosign's form."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deploy.demo_image import digest
from kernel.contracts.oci import Signature
from tests.harness import host

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SIMPLE = "atomic container signature"
SIGSTORE = "cosign container image signature"


def document(of: str, reference: str, kind: str) -> bytes:
    """Return the document that is signed."""
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": of},
        "type": kind,
    }
    return json.dumps({"critical": critical, "optional": None if kind == SIGSTORE else {}}).encode()


class Gpg:
    """A GnuPG home with keys that have no passphrase."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)

    def run(self, *argv: str, input: bytes = b"") -> bytes:
        """Run gpg."""
        done = subprocess.run(
            ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase",
             "", *argv], input=input, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"gpg {' '.join(argv)}: {done.stderr.decode()}"
        return done.stdout

    def key(self, name: str, algorithm: str = "ed25519", expires: str = "never") -> str:
        """Make a key; return its name in other calls."""
        self.run("--quick-generate-key", f"{name} <{name}@example.com>", algorithm, "sign", expires)
        return f"{name}@example.com"

    def public(self, *names: str, armour: bool = False) -> bytes:
        """Return public keys in the form of a file."""
        return self.run(*(["--armor"] if armour else []), "--export", *names)

    def sign(self, name: str, data: bytes, *options: str) -> bytes:
        """Return an OpenPGP message that contains `data`."""
        return self.run(*options, "--local-user", name, "--sign", input=data)

    def simple(self, name: str, of: str, reference: str) -> Signature:
        """Return a signature of an image."""
        return Signature(kind="simple", payload=self.sign(name, document(of, reference, SIMPLE)))

    def close(self) -> None:
        """End the agent that gpg has started."""
        host.run("gpgconf", "--homedir", str(self.home), "--kill", "all")


@dataclass(frozen=True)
class CosignKey:
    """A key pair of cosign."""

    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    @classmethod
    def make(cls, kind: str = "ecdsa") -> CosignKey:
        """Make a key of one kind: `ecdsa` (P-256, which cosign makes), `rsa` or `ed25519`."""
        match kind:
            case "rsa":
                return cls(rsa.generate_private_key(65537, 2048))
            case "ed25519":
                return cls(ed25519.Ed25519PrivateKey.generate())
            case _:
                return cls(ec.generate_private_key(ec.SECP256R1()))

    @property
    def public(self) -> bytes:
        """Return the public key in the form of cosign.pub."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        """Return a bare signature."""
        match self.private:
            case ec.EllipticCurvePrivateKey():
                return self.private.sign(data, ec.ECDSA(SHA256()))
            case rsa.RSAPrivateKey():
                return self.private.sign(data, padding.PKCS1v15(), SHA256())
            case _:
                return self.private.sign(data)

    def cosign(self, of: str, reference: str) -> Signature:
        """Return a signature of an image. Cosign names only the repository."""
        data = document(of, reference, SIGSTORE)
        return Signature(kind="sigstore", payload=data, signature=self.sign(data))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def attachment(*signatures: Signature) -> tuple[bytes, dict[str, bytes]]:
    """Return the manifest under which cosign keeps signatures in a registry, and its blobs by digest."""
    config = b"{}"
    layers = [
        {
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": digest(one.payload),
            "size": len(one.payload),
            "annotations": {"dev.cosignproject.cosign/signature": _base64(one.signature)},
        }
        for one in signatures
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": len(config)
        },
        "layers": layers,
    }  # fmt: skip
    return json.dumps(manifest).encode(), {
        digest(data): data for data in (config, *(one.payload for one in signatures))
    }


def policy(*requirements: dict[str, object], default: str = "reject", **scopes: list[dict[str, object]]) -> str:
    """Return a policy.json: `requirements` for all images of registries, or `scopes` of their own."""
    docker = {"": list(requirements), **scopes} if requirements else scopes
    return json.dumps({"default": [{"type": default}], "transports": {"docker": docker}})
