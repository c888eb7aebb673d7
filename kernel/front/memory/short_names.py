"""What a reference without a registry stands for, by registries.conf: an alias, or the registries to search.

`candidates` and `local` are pure. The front reads the file by itself: what a short name means decides which name an
image gets here, so the image worker is not asked. Where no file has a search list a short name is docker.io's, as with
Docker; where the list is empty it means nothing. There is no terminal to ask at: `enforcing` refuses what several
registries could mean, `permissive` and `disabled` try one after the other. The peers' tools let aliases count in all
three modes, and so does this.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from kernel.config.registries_reader import RegistriesReader
from kernel.errors import FailedPrecondition
from kernel.formats.reference import DEFAULT_REGISTRY, Reference, is_short, parse, repository
from kernel.formats.registries_conf import Conf


def candidates(text: str, conf: Conf) -> tuple[Reference, ...]:
    """The references that a pull of `text` tries, in this order. FailedPrecondition where it means nothing, or could
    mean several and must not."""
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
    """The references that `text` may have been pulled by."""
    whole = parse(text)
    if not is_short(text):
        return (whole,)
    name = repository(text)
    if name in conf.aliases:
        return (parse(f"{conf.aliases[name]}{text[len(name) :]}"),)
    registries = (DEFAULT_REGISTRY,) if conf.search is None else conf.search
    return tuple(dict.fromkeys(parse(f"{registry}/{text}") for registry in registries))


class ShortNames:
    """The names in force."""

    def __init__(self, file: Path) -> None:
        self._reader = RegistriesReader(file)
        self._conf = Conf()

    async def refresh(self, text: str) -> None:
        """Look whether the files have changed, where `text` is a short name. FailedPrecondition where they never were
        good."""
        if is_short(text):
            self._conf = await asyncio.to_thread(self._reader.conf)

    def candidates(self, text: str) -> tuple[Reference, ...]:
        """As the function of this name."""
        return candidates(text, self._conf)

    def local(self, text: str) -> tuple[Reference, ...]:
        """As the function of this name."""
        return local(text, self._conf)
