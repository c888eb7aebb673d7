"""The registries.conf in force on this node: the file and its drop-ins, read again when one of them changes.

The image worker and the front each read the administrator's files themselves, so neither has to trust the other: the
image worker takes from them which endpoints serve an image, the front which image a short name stands for. It is used
in threads, because it looks at the files each time. The format is in `kernel.formats.registries_conf`.
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
"""The largest size of one file, in bytes."""


class RegistriesReader:
    """A reader of registries.conf and the folder of drop-ins beside it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._signatures: Sequence[tuple[str, int, int, int]] | None = None
        """Path, time of change, size and inode of each file when it was last read."""
        self._conf = Conf()
        self._error: FailedPrecondition | None = None

    def conf(self) -> Conf:
        """Return the present content of the files.

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
            # Landlock grants a folder by its inode: a folder that was deleted and made again is not granted.
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
