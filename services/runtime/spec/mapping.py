"""The ids of a user namespace. Pure."""

from __future__ import annotations

from kernel.contracts.oci import IdRange


def has(ids: IdRange, inside: int) -> bool:
    """Return whether a user or group id inside the namespace belongs to the range."""
    return ids.container_id <= inside < ids.container_id + ids.length
