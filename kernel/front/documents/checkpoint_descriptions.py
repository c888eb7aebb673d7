"""What a checkpoint says that it is of, read as what anybody may have written. Pure.

Of it counts which image the container had, and which mounts its processes hold: nothing else. Annotations, devices,
names, commands, privileges and paths of the new container are those of the request.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kernel.contracts.storage import Descriptions
from kernel.errors import InvalidInput
from kernel.formats import strict_json

_OWN = frozenset({"/dev/shm", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv", "/run/secrets"})
"""Bind mounts that each engine makes by itself."""


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
    """A checkpointed container."""

    image_id: str
    """With its algorithm; empty where it is not said."""
    image_names: tuple[str, ...]
    """By which its image may be known here."""
    mounts: tuple[str, ...]
    """Where it had bind mounts."""
    terminal: bool


def parse(source: str, said: Descriptions) -> Origin:
    """Read both descriptions; InvalidInput names `source`."""
    try:
        config = msgspec.convert(strict_json.loads(said.config), _Config)
        spec = msgspec.convert(strict_json.loads(said.spec), _Spec)
    except (strict_json.NotStrictJson, msgspec.ValidationError) as error:
        raise InvalidInput(f"checkpoint {source}: its description does not read: {error}") from error
    reference = config.rootfs_image_ref.removeprefix("sha256:")
    names = (config.rootfs_image_name, config.rootfs_image)
    if not reference and not any(names):
        raise InvalidInput(f"checkpoint {source}: it does not say of which image it is")
    return Origin(
        image_id=f"sha256:{reference}" if reference else "",
        image_names=tuple(dict.fromkeys(name for name in names if name)),
        mounts=tuple(
            mount.destination for mount in spec.mounts if mount.type == "bind" and mount.destination not in _OWN
        ),
        terminal=spec.process.terminal,
    )


def is_listed(names: tuple[str, ...], allowed: tuple[str, ...]) -> bool:
    """Whether one of an image's names is, or is below, one of those in the configuration."""
    return any(
        name == beginning or (name.startswith(beginning) and (beginning[-1:] in "/:@" or name[len(beginning)] in "/:@"))
        for name in names
        for beginning in allowed
        if beginning
    )
