"""JSON from outside, read strictly: a document that two parsers could read differently is rejected. Pure.

Python's parser accepts duplicate keys (the last one counts), NaN and numbers of any length, and overflows its stack on
deep nesting. In a manifest, a token or an archive's index each of these is an error or an attack.
"""

from __future__ import annotations

import json
from typing import NoReturn

_DEPTH = 32
"""The most levels of nesting."""
_DIGITS = 19
"""The most digits of a number: those of a 64-bit integer."""


class NotStrictJson(ValueError):
    """The document is not JSON, or two parsers could read it differently; the message has the reason."""


def loads(data: bytes, *, names: frozenset[str] = frozenset()) -> object:
    """Return the value of a document. Raises NotStrictJson also if a key differs from one of `names` only in case."""
    lower = {name.lower(): name for name in names}

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        result: dict[str, object] = {}
        for key, value in items:
            if key in result:
                raise NotStrictJson(f"key {key[:60]!a} is given twice")
            if lower.get(key.lower(), key) != key:
                raise NotStrictJson(f"key {key[:60]!a} should be {lower[key.lower()]}")
            result[key] = value
        return result

    try:
        text = data.decode("utf-8")
        value: object = json.loads(text, object_pairs_hook=pairs, parse_constant=_constant, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise NotStrictJson("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"it is not JSON: {error.msg} at byte {error.pos}") from error
    except RecursionError as error:
        raise NotStrictJson("it is nested too deeply") from error
    _check_depth(value)
    return value


def _constant(text: str) -> NoReturn:
    raise NotStrictJson(f"{text} is not a JSON number")


def _integer(text: str) -> int:
    if len(text) > _DIGITS + 1:
        raise NotStrictJson("a number is too long")
    return int(text)


def _check_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return
        level = below
    raise NotStrictJson("it is nested too deeply")
