"""containers-registries.d(5): the places of an image's signatures.

A section names the URL of a signature store (`lookaside`, formerly `sigstore`), and whether cosign's signatures are
looked for beside the image (`use-sigstore-attachments`). Each of the two is taken from the narrowest scope around the
image that sets it, as containers/image does. The place is not trusted: a wrong one has no signature that a policy
accepts. `parse` and `find` touch no file; `RegistriesD` reads the folder, in threads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

from kernel.errors import FailedPrecondition
from kernel.formats.reference import Reference
from services.image.registry import address

_LOG = logging.getLogger(__name__)
_SIZE_LIMIT = 1 << 20
_FILES_LIMIT = 1000


class _Section(msgspec.Struct, frozen=True, rename="kebab"):
    lookaside: str = ""
    sigstore: str = ""
    use_sigstore_attachments: bool | None = None


class _RegistriesYaml(msgspec.Struct, frozen=True, rename="kebab"):
    default_docker: _Section | None = None
    docker: dict[str, _Section] = {}


@dataclass(frozen=True, slots=True)
class SignaturePlaces:
    """The places of an image's signatures."""

    lookaside: str = ""
    """The URL of a store, without a slash at its end; empty if none is named."""
    attachments: bool = False
    """Whether cosign's signatures are looked for in the registry."""


Sections = Mapping[str, _Section]
"""The sections by their scope; that of `default-docker` is empty."""


def parse(files: Mapping[str, str]) -> Sections:
    """Return the sections of all files. FailedPrecondition names the file and its fault."""
    sections: dict[str, _Section] = {}
    for name, text in files.items():
        try:
            found = msgspec.convert(yaml.safe_load(text) or {}, _RegistriesYaml)
        except (yaml.YAMLError, msgspec.ValidationError, RecursionError, ValueError) as error:
            raise FailedPrecondition(f"{name} cannot be parsed: {str(error)[:300]}") from error
        defaults = {} if found.default_docker is None else {"": found.default_docker}
        for scope, section in {**found.docker, **defaults}.items():
            if scope in sections:
                raise FailedPrecondition(f"{name}: {scope or 'default-docker'!r} is in another file of its folder too")
            _check(section.lookaside or section.sigstore, f"{name}: {scope or 'default-docker'}")
            sections[scope] = section
    return sections


def find(sections: Sections, image: Reference) -> SignaturePlaces:
    """Return the places of an image's signatures."""
    around = [sections[scope] for scope in image.scopes() if scope in sections]
    lookaside = next((one.lookaside or one.sigstore for one in around if one.lookaside or one.sigstore), "")
    set_there = (one.use_sigstore_attachments for one in around)
    return SignaturePlaces(lookaside.rstrip("/"), next((one for one in set_there if one is not None), False))


def _check(url: str, what: str) -> None:
    if not url:
        return
    try:
        if not url.startswith("file:///"):
            address.parse(url)
    except address.BadAddress as error:
        raise FailedPrecondition(f"{what}: lookaside: {error}; or file:// and a path") from error


class RegistriesD:
    """The sections in force: the folder is read again when one of its files changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._versions: list[tuple[str, int, int, int]] | None = None
        self._sections: Sections = {}
        self._error: FailedPrecondition | None = None

    def places(self, image: Reference) -> SignaturePlaces:
        """Return the places of an image's signatures. FailedPrecondition if the folder is unreadable or not valid."""
        with self._lock:
            self._refresh()
            if self._error is not None:
                raise FailedPrecondition(self._error.message)
            return find(self._sections, image)

    def _refresh(self) -> None:
        try:
            files = sorted(self._folder.glob("*.yaml"))[:_FILES_LIMIT]
            stats = [(file, file.stat()) for file in files]
            versions = [(str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino) for file, stat in stats]
            if versions == self._versions:
                return
            self._versions = versions
            large = next((file for file, stat in stats if stat.st_size > _SIZE_LIMIT), None)
            if large is not None:
                raise FailedPrecondition(f"{large} is larger than {_SIZE_LIMIT} bytes")
            self._sections = parse({str(file): file.read_text(encoding="utf-8") for file in files})
            self._error = None
        except (OSError, UnicodeDecodeError) as error:
            self._versions, self._error = None, FailedPrecondition(f"{self._folder} cannot be read: {error}")
        except FailedPrecondition as error:
            self._error = error
