"""Terminal sizes out of pieces of JSON."""

from __future__ import annotations

import json

from kernel.stream.sessions.resize import Sizes


def feed(sizes: Sizes, text: str) -> tuple[int, int] | None:
    return sizes.feed(memoryview(text.encode()))


def test_whole_objects_and_pieces() -> None:
    sizes = Sizes()
    assert feed(sizes, '{"Width":80,"Height":24}') == (80, 24)
    assert feed(sizes, '\n{"Width":1') is None
    assert feed(sizes, '00,"Height":30}{"Wi') == (100, 30)
    assert feed(sizes, 'dth":65535,"Height":65535}') == (65535, 65535)


def test_of_many_only_the_last_counts() -> None:
    many = "".join(json.dumps({"Width": number, "Height": 1}) for number in range(60000))
    assert feed(Sizes(), many) == (59999, 1)


def test_what_is_no_size_is_passed_over() -> None:
    sizes = Sizes()
    wrong = ('{"Width":65536,"Height":1}', '{"Width":-1,"Height":1}', '{"Width":true,"Height":1}', "{}", "{x}", "[]",
             '{"Width":"1","Height":1}', '{"Width":1.5,"Height":1}')  # fmt: skip
    for text in wrong:
        assert feed(sizes, text) is None
    assert feed(sizes, '{"Width":2,"Height":3}') == (2, 3)


def test_an_object_without_end_is_not_kept() -> None:
    sizes = Sizes()
    for _ in range(100):
        assert feed(sizes, "{" + "x" * 10000) is None
    assert len(sizes._rest) <= 4096
