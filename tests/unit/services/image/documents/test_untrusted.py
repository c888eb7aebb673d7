"""Values of a registry are checked, and quoted in errors."""

import msgspec
import pytest

from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt
from services.image.documents import untrusted


class Point(msgspec.Struct):
    x: int


def test_documents_are_converted() -> None:
    assert untrusted.convert(b'{"x": 1, "y": 2}', Point, "point") == Point(1)
    for bad in (b"{", b'{"x": "1"}', b'{"x": 1, "x": 2}', b'{"X": 1}'):
        with pytest.raises(Corrupt, match=r"^point: "):
            untrusted.convert(bad, Point, "point", frozenset({"x"}))


def test_bytes_are_those_that_a_descriptor_names() -> None:
    blob = Descriptor(media_type="x", digest=untrusted.digest_of(b"data"), size=4)
    untrusted.verify(b"data", blob, "image x")
    for other in (b"date", b"data1"):
        with pytest.raises(Corrupt, match=r"^image x: the \d bytes that came are not blob sha256:"):
            untrusted.verify(other, blob, "image x")


def test_digests_are_checked_and_quoted() -> None:
    good = untrusted.digest_of(b"data")
    assert untrusted.checked_digest(good, "image x") == good
    with pytest.raises(Corrupt) as caught:
        untrusted.checked_digest("sha256:\x1b[31m" + "x" * 1000, "image x")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300
