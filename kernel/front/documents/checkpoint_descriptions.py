"""The two descriptions in a checkpoint archive: config.dump and spec.dump. They are not trusted. Pure.

Only this is taken from them: which image the container had, which mounts its processes hold, and whether it had a
terminal. Annotations, devices, names, commands, privileges and paths of the new container are those of the request.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kernel.contracts.storage import Descriptions
from kernel.errors import InvalidInput
from kernel.formats import strict_json

_OWN = frozenset({"/dev/shm", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv", "/run/secrets"})
"""Bind mounts that each engine makes by itself, so the request need not have them."""


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    rootfs_image: str = ""
    rootfs_image_ref: str = ""
    rootfs_image_name: str = ""


class _Mount(msgspec.Struct, frozen=True):
    destination: str
    type: str = ""


class _Process(msgspec.Struct, frozen=True):
    terminal: bool = False


class _Spec(msgspec.Struct, frozen=True):
    mounts: list[_Mount] = []
    process: _Process = _Process()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The container that was checkpointed."""

    image_id: str
    """Id of its image, with `sha256:`; empty if the checkpoint does not have it."""
    image_names: tuple[str, ...]
    """The names that its image may have on this node."""
    mounts: tuple[str, ...]
    """Paths of its own bind mounts in the container."""
    terminal: bool


def parse(source: str, found: Descriptions) -> Origin:
    """Read both descriptions. Raise InvalidInput, which names `source`, if they are malformed or name no image."""
    try:
        config = msgspec.convert(strict_json.loads(found.config), _Config)
        spec = msgspec.convert(strict_json.loads(found.spec), _Spec)
    except (strict_json.NotStrictJson, msgspec.ValidationError) as error:
        raise InvalidInput(f"checkpoint {source}: its description cannot be read: {error}") from error
    reference = config.rootfs_image_ref.removeprefix("sha256:")
    names = (config.rootfs_image_name, config.rootfs_image)
    if not reference and not any(names):
        raise InvalidInput(f"checkpoint {source}: its description names no image")
    return Origin(
        image_id=f"sha256:{reference}" if reference else "",
        image_names=tuple(dict.fromkeys(name for name in names if name)),
        mounts=tuple(
            mount.destination for mount in spec.mounts if mount.type == "bind" and mount.destination not in _OWN
        ),
        terminal=spec.process.terminal,
    )


def is_listed(names: tuple[str, ...], allowed: tuple[str, ...]) -> bool:
    """Return whether one of an image's names is, or is below, one of those in the configuration."""
    return any(
        name == beginning or (name.startswith(beginning) and (beginning[-1:] in "/:@" or name[len(beginning)] in "/:@"))
        for name in names
        for beginning in allowed
        if beginning
    )
