"""OpenPGP keys and messages, by Sequoia. Only the child that verifies signatures imports this.

Sequoia is written in Rust and refuses what has been broken since (SHA-1 as a signature's digest, short keys) and what
was revoked. It takes a signature that was made before its key expired, as OpenPGP has it; here that does not count, as
with the peers: whoever comes by an old key can date back.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pysequoia
from pysequoia.packet import PacketPile, SignatureType, Tag

from kernel.errors import InvalidInput

_WRONG = (RuntimeError, ValueError, TypeError, OSError)
"""What the binding raises; it has no errors of its own."""
_NO = "it does not verify with a key of the policy"


class Keyring:
    """The certificates of one requirement."""

    def __init__(self, certificates: list[pysequoia.Cert]) -> None:
        self._certificates = {certificate.fingerprint: certificate for certificate in certificates}

    def open(self, message: bytes) -> bytes:
        """What is signed in an OpenPGP message, where one of these keys has signed it; InvalidInput otherwise."""
        try:
            opened = pysequoia.verify(message, store=self._asked)
        except _WRONG as error:
            raise InvalidInput(f"{_NO}: {_first_line(error)}") from error
        if opened.bytes is None or not opened.valid_sigs:
            raise InvalidInput(_NO)
        now = datetime.now(UTC)
        for signature in opened.valid_sigs:
            if not _expired(self._certificates[signature.certificate], signature.signing_key, now):
                return bytes(opened.bytes)
        raise InvalidInput(f"{_NO}: the key has expired")

    def _asked(self, _: list[str]) -> list[pysequoia.Cert]:
        return list(self._certificates.values())


def read(files: Iterable[bytes]) -> Keyring:
    """The certificates of key files, binary or armoured; InvalidInput where one holds none."""
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
    """Whether a certificate, or the subkey of it that has signed, is out of date now."""
    try:
        end = certificate.expiration
        packets = list(PacketPile.from_bytes(bytes(certificate)))
    except _WRONG as error:
        raise InvalidInput(f"a key of the policy does not read: {_first_line(error)}") from error
    if end is not None and end <= now:
        return True
    created, period, newest, within = None, None, None, False
    for packet in packets:
        if packet.tag in (Tag.PublicKey, Tag.PublicSubkey):
            within = packet.tag == Tag.PublicSubkey and packet.fingerprint == key
            created = packet.key_created if within else created
        elif within and packet.tag == Tag.Signature and packet.signature_type == SignatureType.SubkeyBinding:
            made = packet.signature_created
            if made is not None and (newest is None or made > newest):  # the newest one says how long it lasts
                newest, period = made, packet.key_validity_period
    return created is not None and bool(period) and created + (period or timedelta()) <= now


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
