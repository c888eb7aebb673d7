"""Deleted paths lie below the root. Changes are written and made in the integration tests."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from services.storage.checkpoints.changes import deleted_paths


def test_deleted_paths_stay_in_the_root() -> None:
    assert deleted_paths(b'["/etc/x", "a/./b"]') == [b"/etc/x", b"a/./b"]
    assert deleted_paths(b"") == []
    for text in (b'["/"]', b'["."]', b'["../x"]', b'["/a/../../b"]', b"[1]", b"{}", b"nonsense"):
        with pytest.raises(InvalidInput):
            deleted_paths(text)
