"""OpenPGP messages as GnuPG writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import InvalidInput
from services.storage.trust import sequoia, verdict
from tests.harness.signing import Gpg

ALICE, BOB = "alice@example.com", "bob@example.com"
ONE = f"sha256:{'1' * 64}"


def test_a_message_of_a_known_key_opens(gpg: Gpg) -> None:
    both = sequoia.read([gpg.public(ALICE, BOB)])
    for name in (ALICE, BOB):
        assert both.open(gpg.sign(name, b"words")) == b"words"
        assert sequoia.read([gpg.public(name, armour=True)]).open(gpg.sign(name, b"words")) == b"words"
    check = verdict.simple_check(both)
    assert check(gpg.simple(ALICE, ONE, "example.com/app:v1")).reference == "example.com/app:v1"


def test_a_message_of_another_key_does_not(gpg: Gpg) -> None:
    with pytest.raises(InvalidInput, match="does not verify with a key of the policy"):
        sequoia.read([gpg.public(BOB)]).open(gpg.sign(ALICE, b"words"))


def test_a_changed_message_does_not(gpg: Gpg) -> None:
    message = bytearray(gpg.sign(ALICE, b"words" * 100, "--compress-algo", "none"))
    message[message.index(b"words")] ^= 1
    with pytest.raises(InvalidInput):
        sequoia.read([gpg.public(ALICE)]).open(bytes(message))


def test_a_message_that_is_only_packed_does_not(gpg: Gpg) -> None:
    packed = gpg.run("--store", input=b"words")
    for message in (packed, b"", b"words", gpg.sign(ALICE, b"words")[:-5]):
        with pytest.raises(InvalidInput):
            sequoia.read([gpg.public(ALICE)]).open(message)


def test_a_digest_that_is_broken_does_not_count(gpg: Gpg) -> None:
    weak = gpg.sign(BOB, b"words", "--digest-algo", "SHA1")
    with pytest.raises(InvalidInput):
        sequoia.read([gpg.public(BOB)]).open(weak)


def test_a_key_that_was_revoked_or_has_expired_does_not_count(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Path(tmp_path_factory.mktemp("g")) / "home"
    mine = Gpg(home)
    try:
        gone = mine.key("gone")
        message = mine.sign(gone, b"words")
        assert sequoia.read([mine.public(gone)]).open(message) == b"words"
        (revocation,) = (home / "openpgp-revocs.d").iterdir()
        mine.run("--import", input=revocation.read_text().replace(":-----BEGIN", "-----BEGIN").encode())
        with pytest.raises(InvalidInput):
            sequoia.read([mine.public(gone)]).open(message)
        then = ("--faked-system-time", "20240101T000000")
        mine.run(*then, "--quick-generate-key", "old@example.com", "ed25519", "sign", "1y")
        with pytest.raises(InvalidInput, match="the key has expired"):
            sequoia.read([mine.public("old@example.com")]).open(mine.sign("old@example.com", b"words", *then))
    finally:
        mine.close()


def test_a_subkey_that_has_expired_does_not_count(tmp_path: Path, gpg: Gpg) -> None:
    then = ("--faked-system-time", "20240101T000000")
    gpg.run(*then, "--quick-generate-key", "carol@example.com", "ed25519", "cert", "never")
    (line,) = [one for one in gpg.run("--list-keys", "--with-colons", "carol@example.com").splitlines()
               if one.startswith(b"fpr:")]  # fmt: skip
    primary = line.split(b":")[9].decode()
    gpg.run(*then, "--quick-add-key", primary, "ed25519", "sign", "1y")
    old = gpg.sign("carol@example.com", b"words", *then)
    gpg.run("--quick-add-key", primary, "ed25519", "sign", "never")
    keyring = sequoia.read([gpg.public("carol@example.com")])
    with pytest.raises(InvalidInput, match="the key has expired"):
        keyring.open(old)
    assert keyring.open(gpg.sign("carol@example.com", b"words")) == b"words"


@pytest.mark.parametrize("data", [b"", b"no key", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n"])
def test_what_is_no_key_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="key"):
        sequoia.read([data])
