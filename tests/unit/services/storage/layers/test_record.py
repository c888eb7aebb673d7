"""Records that an earlier crisp wrote are read."""

from __future__ import annotations

import msgspec

from services.storage.layers.record import Notes, Record


def test_fields_that_an_older_record_lacks_have_their_defaults() -> None:
    found = msgspec.json.decode(b'{"bytes": 1, "inodes": 2, "root": true}', type=Record)
    assert (found.skeleton, found.notes, found.boot) == (False, False, "")
    assert msgspec.json.decode(b'{"implied": ["a"], "later": 1}', type=Notes) == Notes(implied=("a",))
