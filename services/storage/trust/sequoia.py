"""OpenPGP keys and messages, by Sequoia. Only the child that verifies signatures imports this.

Sequoia is written in Rust and refuses broken algorithms (SHA-1 as a signature's digest, short keys) and revoked keys.
By OpenPGP's rules it accepts a signature that was made before its key expired. Here that does not count, as it does not
in other container engines: a thief of an old key can put any date into a signature.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pysequoia
from pysequoia.packet import PacketPile, SignatureType, Tag

from kernel.errors import InvalidInput

_WRONG = (RuntimeError, ValueError, TypeError, OSError)
"""Errors that the Python binding raises; it has none of its own."""
_NO = "it does not verify with a key of the policy"


class Keyring:
    """The certificates of one requirement."""

    def __init__(self, certificates: list[pysequoia.Cert]) -> None:
        self._certificates = {certificate.fingerprint: certificate for certificate in certificates}

    def open(self, message: bytes) -> bytes:
        """Return the signed content of an OpenPGP message; InvalidInput unless one of these keys has signed it."""
        try:
            opened = pysequoia.verify(message, store=self._certificates_for)
        except _WRONG as error:
            raise InvalidInput(f"{_NO}: {_first_line(error)}") from error
        if opened.bytes is None or not opened.valid_sigs:
            raise InvalidInput(_NO)
        now = datetime.now(UTC)
        for signature in opened.valid_sigs:
            if not _expired(self._certificates[signature.certificate], signature.signing_key, now):
                return bytes(opened.bytes)
        raise InvalidInput(f"{_NO}: the key has expired")

    def _certificates_for(self, _: list[str]) -> list[pysequoia.Cert]:
        return list(self._certificates.values())


def read(files: Iterable[bytes]) -> Keyring:
    """Read the certificates of key files, binary or armoured; InvalidInput for a file without any."""
    certificates: list[pysequoia.Cert] = []
    for data in files:
        try:
            found = pysequoia.Cert.split_bytes(data)
        except _WRONG as error:
            raise InvalidInput(f"a key of the policy is no OpenPGP key: {_first_line(error)}") from error
        if not found:
            raise InvalidInput("a key file of the policy holds no OpenPGP key")
        certificates += found
    return Keyring(certificates)


def _expired(certificate: pysequoia.Cert, key: str, now: datetime) -> bool:
    """Return whether a certificate, or its subkey `key` that has signed, has expired."""
    try:
        end = certificate.expiration
        packets = list(PacketPile.from_bytes(bytes(certificate)))
    except _WRONG as error:
        raise InvalidInput(f"a key of the policy cannot be read: {_first_line(error)}") from error
    if end is not None and end <= now:
        return True
    created, period, newest, within = None, None, None, False
    for packet in packets:
        if packet.tag in (Tag.PublicKey, Tag.PublicSubkey):
            within = packet.tag == Tag.PublicSubkey and packet.fingerprint == key
            created = packet.key_created if within else created
        elif within and packet.tag == Tag.Signature and packet.signature_type == SignatureType.SubkeyBinding:
            made = packet.signature_created
            if made is not None and (newest is None or made > newest):  # the newest binding counts
                newest, period = made, packet.key_validity_period
    return created is not None and bool(period) and created + (period or timedelta()) <= now


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
