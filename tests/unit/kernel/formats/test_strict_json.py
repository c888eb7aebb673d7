"""What two JSON parsers could read differently."""

from __future__ import annotations

import pytest

from kernel.formats import strict_json


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b'{"a":1,"a":2}', b'{"a":{"b":1,"b":1}}', b"NaN", b"-Infinity", b"\xef\xbb\xbf{}", b'"\xff"',
        b"[" * 200_000, b"[" * 40 + b"]" * 40, b"9" * 10_000, b"9" * 25, b"{} {}", b'{"Layers":[]}',
    ],
)  # fmt: skip
def test_refuses(data: bytes) -> None:
    with pytest.raises(strict_json.NotStrictJson):
        strict_json.loads(data, names=frozenset({"layers"}))


def test_reads() -> None:
    assert strict_json.loads(b'{"layers":[1,-2.5,null,"\xc3\xbc"],"X":{}}', names=frozenset({"layers"})) == {
        "layers": [1, -2.5, None, "ü"],
        "X": {},
    }
