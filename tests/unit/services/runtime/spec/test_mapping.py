from __future__ import annotations

from kernel.contracts.oci import IdRange
from services.runtime.spec import mapping


def test_which_ids_are_known() -> None:
    ids = IdRange(container_id=0, host_id=1000, length=3)
    assert [mapping.has(ids, one) for one in (-1, 0, 2, 3, 1000)] == [False, True, True, False, False]
