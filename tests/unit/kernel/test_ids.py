"""Ids are refused unless they are exactly of their form."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from kernel.ids import container_id, digest, digest_hex, new_id, new_session, sandbox_id, session_id, short

HEX = "0123456789abcdef" * 4


def test_a_new_id_is_valid_and_fresh() -> None:
    assert sandbox_id(new_id()) != container_id(new_id())


@pytest.mark.parametrize("text", ["", HEX[:-1], HEX + "0", HEX.upper(), "../" + HEX[3:], HEX[:-1] + "\n", "٣" * 64])
def test_a_wrong_id_is_refused(text: str) -> None:
    for check in (sandbox_id, container_id):
        with pytest.raises(InvalidInput, match="64 lower-case hex digits"):
            check(text)


@pytest.mark.parametrize(
    "text", ["", HEX, "sha256:" + HEX[:-1], "sha256:" + HEX + "a", "sha512:" + HEX, "sha256:" + HEX.upper(),
             "sha256:../../x", "sha256:" + "٣" * 64, "sha256:" + HEX + "\n"],
)  # fmt: skip
def test_a_wrong_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        digest(text)


def test_a_digest_names_a_file_by_its_hex() -> None:
    assert digest_hex(digest("sha256:" + HEX)) == HEX


def test_a_session_id_has_128_bits_and_is_never_told() -> None:
    assert session_id(new_session()) != session_id(new_session())
    for text in ("", "a" * 21, "a" * 23, "a" * 21 + "/", "a" * 21 + "\n", "../" + "a" * 19):
        with pytest.raises(InvalidInput) as caught:
            session_id(text)
        assert not text or text not in str(caught.value)


def test_people_see_the_beginning_of_an_id() -> None:
    assert short("0123456789abcdef" * 4) == "0123456789abc"
    assert short("short") == "short"
