"""The public keys of cosign: ECDSA, RSA and Ed25519 in PEM. Only the child that verifies signatures imports this."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cryptography.hazmat.backends.openssl.backend  # noqa: F401  # else ECDSA would import it later, when the root is empty
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from kernel.errors import InvalidInput

_LEAST_RSA_BITS = 2048
_END = b"-----END PUBLIC KEY-----"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key of one of the kinds that cosign signs with."""

    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Return whether this key has signed `data`, or its SHA-256 if this kind of key signs a digest."""
        try:
            match self.key:
                case ec.EllipticCurvePublicKey():
                    self.key.verify(signature, data, ec.ECDSA(SHA256()))
                case rsa.RSAPublicKey():
                    self.key.verify(signature, data, padding.PKCS1v15(), SHA256())
                case ed25519.Ed25519PublicKey():
                    self.key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def read(files: Iterable[bytes]) -> tuple[PublicKey, ...]:
    """Read the keys of PEM files, one or more in each; InvalidInput for a file without a usable one."""
    keys = []
    for data in files:
        blocks = [block + _END for block in data.split(_END)[:-1]]
        if not blocks:
            raise InvalidInput("a key file of the policy holds no public key in PEM")
        keys += [_read(block) for block in blocks]
    return tuple(keys)


def _read(block: bytes) -> PublicKey:
    try:
        key = load_pem_public_key(block)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"a key of the policy cannot be read: {str(error)[:200]}") from error
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        raise InvalidInput(f"a key of the policy is an RSA key of {key.key_size} bits; {_LEAST_RSA_BITS} are the least")
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise InvalidInput("a key of the policy is neither ECDSA nor RSA nor Ed25519")
    return PublicKey(key)
