"""The references that an image's short name (one without a registry) stands for, by containers-registries.conf(5).

- A short name stands for its alias, if it has one, or for the name in each registry of the search list.
- If no file has a search list, it stands for the name at docker.io, as with Docker; if the list is empty, for nothing.
- No question can be put to the user. The mode `enforcing` refuses a name that several registries could have;
  `permissive` and `disabled` try one after the other. Aliases count in all three modes, as they do for podman.
- The front reads the file itself: it decides which name an image gets on this node, and the image worker, which is
  not trusted, must not decide that.

`candidates` and `local` are pure functions.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from kernel.config.registries_reader import RegistriesReader
from kernel.errors import FailedPrecondition
from kernel.formats.reference import DEFAULT_REGISTRY, Reference, is_short, parse, repository
from kernel.formats.registries_conf import Conf


def candidates(text: str, conf: Conf) -> tuple[Reference, ...]:
    """Return the references that a pull of `text` tries, in this order.

    Raises FailedPrecondition if it stands for nothing, or if it could stand for several and the mode is `enforcing`.
    """
    found = local(text, conf)
    if not is_short(text):
        return found
    if not found:
        raise FailedPrecondition(
            f"image {text!r} is a short name, and registries.conf names no registries to search",
            hint="name the registry, or see unqualified-search-registries and aliases of containers-registries.conf(5)",
        )
    if len(found) > 1 and conf.mode == "enforcing":
        raise FailedPrecondition(
            f"image {text!r} is a short name that {', '.join(one.registry for one in found)} could have, and "
            "short-name-mode is enforcing",
            hint="name the registry, or make an alias of it",
        )
    return found


def local(text: str, conf: Conf) -> tuple[Reference, ...]:
    """Return the references by which `text` may have been pulled."""
    whole = parse(text)
    if not is_short(text):
        return (whole,)
    name = repository(text)
    if name in conf.aliases:
        return (parse(f"{conf.aliases[name]}{text[len(name) :]}"),)
    registries = (DEFAULT_REGISTRY,) if conf.search is None else conf.search
    return tuple(dict.fromkeys(parse(f"{registry}/{text}") for registry in registries))


class ShortNames:
    """The configuration in force, read again if its files have changed."""

    def __init__(self, file: Path) -> None:
        self._reader = RegistriesReader(file)
        self._conf = Conf()

    async def refresh(self, text: str) -> None:
        """Read the files again if `text` is a short name and they have changed.

        If files are malformed, the last good configuration stays in force; raises FailedPrecondition if there is none.
        """
        if is_short(text):
            self._conf = await asyncio.to_thread(self._reader.conf)

    def candidates(self, text: str) -> tuple[Reference, ...]:
        """Return the references that a pull of `text` tries (`candidates`)."""
        return candidates(text, self._conf)

    def local(self, text: str) -> tuple[Reference, ...]:
        """Return the references by which `text` may have been pulled (`local`)."""
        return local(text, self._conf)
