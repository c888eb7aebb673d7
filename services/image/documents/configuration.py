"""Image configurations, as far as a pull checks them (image-spec, config.md). Pure.

The front reads the rest by itself.
"""

from __future__ import annotations

import msgspec

from kernel.errors import Corrupt, FailedPrecondition
from services.image.documents.platforms import Platform
from services.image.documents.untrusted import checked_digest, convert, quoted

_NAMES = frozenset({"rootfs", "type", "diff_ids", "os", "architecture"})


class _RootFs(msgspec.Struct, frozen=True):
    type: str
    diff_ids: list[str]


class _Configuration(msgspec.Struct, frozen=True):
    rootfs: _RootFs
    os: str = ""
    architecture: str = ""


def check(data: bytes, layers: int, platform: Platform | None, what: str) -> None:
    """Check that a configuration belongs to a manifest with `layers` layers and is for `platform`.

    Corrupt unless it lists one diff id for each layer; FailedPrecondition if it is for another platform. `platform` is
    None if an index has chosen the manifest, because some configurations then name a wrong one.
    """
    found = convert(data, _Configuration, f"{what}: configuration", _NAMES)
    if found.rootfs.type != "layers":
        raise Corrupt(f"{what}: configuration: rootfs.type is {quoted(found.rootfs.type)}, not layers")
    diff_ids = [checked_digest(text, f"{what}: configuration: rootfs.diff_ids") for text in found.rootfs.diff_ids]
    if len(diff_ids) != layers:
        raise Corrupt(f"{what}: {layers} layers but the configuration lists {len(diff_ids)} diff ids")
    if platform and (found.os or platform.os, found.architecture or platform.architecture) != (
        platform.os,
        platform.architecture,
    ):
        raise FailedPrecondition(
            f"{what}: it is made for {quoted(f'{found.os}/{found.architecture}')}, not for {platform}"
        )
