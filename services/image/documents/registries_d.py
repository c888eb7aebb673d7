"""registries.d: where the signatures of an image are. `parse` and `find` are pure; `RegistriesD` reads the folder.

containers-registries.d(5): a URL of a signature store (`lookaside`, before that called `sigstore`), and whether
cosign's signatures are asked for beside the image (`use-sigstore-attachments`). Each is taken from the narrowest
scope around the image that says something of it, as the peers' code does. Where signatures are decides nothing: a
wrong place has none that a policy accepts.
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


class _File(msgspec.Struct, frozen=True, rename="kebab"):
    default_docker: _Section | None = None
    docker: dict[str, _Section] = {}


@dataclass(frozen=True, slots=True)
class Places:
    """Where an image's signatures are."""

    lookaside: str = ""
    """A URL, without a slash at its end; empty where none is named."""
    attachments: bool = False
    """Whether the registry is asked for cosign's."""


Sections = Mapping[str, _Section]
"""By scope; the default is the empty one."""


def parse(files: Mapping[str, str]) -> Sections:
    """Read all files together; FailedPrecondition names file and fault."""
    sections: dict[str, _Section] = {}
    for name, text in files.items():
        try:
            found = msgspec.convert(yaml.safe_load(text) or {}, _File)
        except (yaml.YAMLError, msgspec.ValidationError, RecursionError, ValueError) as error:
            raise FailedPrecondition(f"{name} does not read: {str(error)[:300]}") from error
        defaults = {} if found.default_docker is None else {"": found.default_docker}
        for scope, section in {**found.docker, **defaults}.items():
            if scope in sections:
                raise FailedPrecondition(f"{name}: {scope or 'default-docker'!r} is in another file of its folder too")
            _check(section.lookaside or section.sigstore, f"{name}: {scope or 'default-docker'}")
            sections[scope] = section
    return sections


def find(sections: Sections, image: Reference) -> Places:
    """What the sections say of an image."""
    around = [sections[scope] for scope in image.scopes() if scope in sections]
    lookaside = next((one.lookaside or one.sigstore for one in around if one.lookaside or one.sigstore), "")
    said = (one.use_sigstore_attachments for one in around)
    return Places(lookaside.rstrip("/"), next((one for one in said if one is not None), False))


def _check(url: str, what: str) -> None:
    if not url:
        return
    try:
        if not url.startswith("file:///"):
            address.parse(url)
    except address.BadAddress as error:
        raise FailedPrecondition(f"{what}: lookaside: {error}; or file:// and a path") from error


class RegistriesD:
    """The sections in force: the folder is read again when one of its files changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._seen: list[tuple[str, int, int, int]] | None = None
        self._sections: Sections = {}
        self._error: FailedPrecondition | None = None

    def places(self, image: Reference) -> Places:
        """Where an image's signatures are. FailedPrecondition where the folder does not read."""
        with self._lock:
            self._refresh()
            if self._error is not None:
                raise FailedPrecondition(self._error.message)
            return find(self._sections, image)

    def _refresh(self) -> None:
        try:
            files = sorted(self._folder.glob("*.yaml"))[:_FILES_LIMIT]
            stats = [(file, file.stat()) for file in files]
            seen = [(str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino) for file, stat in stats]
            if seen == self._seen:
                return
            self._seen = seen
            large = next((file for file, stat in stats if stat.st_size > _SIZE_LIMIT), None)
            if large is not None:
                raise FailedPrecondition(f"{large} is larger than {_SIZE_LIMIT} bytes")
            self._sections = parse({str(file): file.read_text(encoding="utf-8") for file in files})
            self._error = None
        except (OSError, UnicodeDecodeError) as error:
            self._seen, self._error = None, FailedPrecondition(f"{self._folder} cannot be read: {error}")
        except FailedPrecondition as error:
            self._error = error
