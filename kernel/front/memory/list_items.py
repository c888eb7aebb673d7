"""Pods, containers and images as items of list messages, serialised once for each record. Pure.

A record is immutable, so its item is kept as long as the record stays: a list of a hundred pods is a join of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from google.protobuf.message import Message

from kernel.contracts.records import Container, Image, Sandbox
from kernel.front.responses import protobuf_fields

LIST_FIELD = 1
"""The number of the field of items, in every list message and in every message of a list's stream."""
_Record = TypeVar("_Record", Sandbox, Container, Image)


class Items(Generic[_Record]):
    """The items of one kind of record. `make` makes an item's message; at most `limit` items are kept."""

    def __init__(self, make: Callable[[_Record], Message], limit: int = 4096) -> None:
        self._make: Callable[[_Record], Message] = make
        self._kept: dict[str, tuple[_Record, bytes]] = {}
        self._limit = limit

    def of(self, record: _Record) -> bytes:
        """Return a record's item as a field of the list message."""
        kept = self._kept.get(record.id)
        if kept is not None and kept[0] is record:
            return kept[1]
        item = protobuf_fields.field(LIST_FIELD, self._make(record).SerializeToString())
        if len(self._kept) >= self._limit:  # most items belong to records that are gone
            self._kept.clear()
        self._kept[record.id] = (record, item)
        return item
