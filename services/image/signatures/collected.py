"""The signatures of one image that were found so far, up to the limits.

A client that may write to a repository or a store could write without end, so the number and the size are limited.
"""

from __future__ import annotations

from kernel.contracts.oci import Signature
from kernel.errors import FailedPrecondition
from kernel.formats.reference import Reference

MOST = 128
"""The most signatures of one image."""
MOST_BYTES = 256 << 10
"""The most bytes of all of them together."""
SIZE_LIMIT = 64 << 10
"""The most bytes of one signature, and of one signed document."""


class Collected:
    """The signatures of one image."""

    def __init__(self, image: Reference) -> None:
        self._image = image
        self._signatures: dict[Signature, None] = {}
        self._bytes = 0

    def add(self, signature: Signature) -> None:
        """Add a signature unless it is there. FailedPrecondition if there are too many, or too many bytes of them."""
        if signature in self._signatures:
            return
        self._bytes += len(signature.payload) + len(signature.signature)
        if len(self._signatures) >= MOST or self._bytes > MOST_BYTES:
            raise FailedPrecondition(
                f"image {self._image} has more signatures than crisp looks at: {MOST}, {MOST_BYTES >> 10} KiB together"
            )
        self._signatures[signature] = None

    @property
    def all(self) -> tuple[Signature, ...]:
        """The signatures in the order in which they were found."""
        return tuple(self._signatures)
