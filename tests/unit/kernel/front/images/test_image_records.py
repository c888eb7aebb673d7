"""What a pull makes of an image's record; the rest is tested by the flows of test_image_queries."""

from __future__ import annotations

from kernel.contracts.oci import Signature
from kernel.front.images.image_records import kept_signatures


def test_signatures_are_kept_within_bounds_new_ones_first() -> None:
    old, new = (Signature(kind="simple", payload=b"one"), Signature(kind="sigstore", payload=b"two", signature=b"x"))
    assert kept_signatures((old,), (new, new)) == (new, old)
    many = [Signature(kind="simple", payload=str(number).encode()) for number in range(1000)]
    assert kept_signatures(many, (new,)) == (new, *many[:127])
    large = [Signature(kind="simple", payload=bytes([number]) * (100 << 10)) for number in range(5)]
    assert kept_signatures(large, ()) == tuple(large[:2])
