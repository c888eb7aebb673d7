"""The registries.conf in force on this node: the file and its drop-ins, read again when one of them changes.

The image worker and the front each read the administrator's files by themselves, so neither has to trust the other: the
one takes from them which endpoints serve an image, the other what a short name stands for. Used in threads, as it looks
at files each time. The format is in `kernel.formats.registries_conf`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from kernel.errors import FailedPrecondition
from kernel.formats.registries_conf import Conf, merge, parse

_LOG = logging.getLogger(__name__)
_SIZE_LIMIT = 4 << 20
"""The most bytes of one file."""


class RegistriesReader:
    """Reads registries.conf and the folder of drop-ins beside it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._signatures: Sequence[tuple[str, int, int, int]] | None = None
        """Path, time of change, size and inode of each file when it was last read."""
        self._conf = Conf()
        self._error: FailedPrecondition | None = None

    def conf(self) -> Conf:
        """Return what the files contain now.

        If a file becomes invalid, that is logged once and the last valid content stays in force. FailedPrecondition if
        the files were never valid.
        """
        with self._lock:
            self._refresh()
            if self._error is not None:
                raise FailedPrecondition(self._error.message, hint=self._error.hint)
            return self._conf

    def _refresh(self) -> None:
        first = self._signatures is None
        files = [self._file, *sorted(Path(f"{self._file}.d").glob("*.conf"))]
        try:
            statuses = [(file, file.stat()) for file in files if file.exists()]
            signatures = [(str(file), status.st_mtime_ns, status.st_size, status.st_ino) for file, status in statuses]
            if signatures == self._signatures:
                return
            self._signatures = signatures
            found = []
            for file, status in statuses:
                if status.st_size > _SIZE_LIMIT:
                    raise FailedPrecondition(f"{file} is larger than {_SIZE_LIMIT} bytes")
                found.append(parse(file.read_text(encoding="utf-8"), str(file)))
        except (OSError, UnicodeDecodeError) as error:
            # Landlock grants a folder by its inode, so one that was made again is another
            hint = "if its folder was made again, restart the workers front and image"
            self._reject(FailedPrecondition(f"{self._file} cannot be read: {error}", hint=hint), first=first)
        except FailedPrecondition as error:
            self._reject(error, first=first)
        else:
            self._conf, self._error = merge(found), None

    def _reject(self, error: FailedPrecondition, *, first: bool) -> None:
        if first or self._error is not None:
            self._error = error
        else:
            _LOG.warning("the registries stay as they were: %s", error)
