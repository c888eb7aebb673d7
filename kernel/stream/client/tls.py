"""The certificate of the server's socket, read again when its files change, and the authority of its clients."""

from __future__ import annotations

import logging
import os
import ssl

from kernel.config.sections import StreamSection
from kernel.errors import FailedPrecondition

_LOG = logging.getLogger(__name__)
_Stamp = tuple[tuple[int, int, int], ...]
"""Inode, time of modification and size of each file: if they differ, the files were replaced."""


class Tls:
    """The context for new connections; existing ones keep the one that they began with."""

    def __init__(self, section: StreamSection) -> None:
        """Read the files; raises FailedPrecondition if they make no context."""
        self._section = section
        self._stamp = self._current_stamp()
        try:
            self._context = self._load()
        except OSError as error:  # ssl.SSLError is an OSError
            raise FailedPrecondition(
                f"the stream server's certificate {section.tls_cert} cannot be used: {error}",
                hint="see stream.tls_cert, stream.tls_key and stream.tls_ca in the configuration",
            ) from error

    def context(self) -> ssl.SSLContext:
        """Return a context for the current files, or for the last valid ones if these do not load."""
        stamp = self._current_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._load()
                _LOG.info("the stream server's certificate was read again")
            except OSError as error:
                _LOG.error("the stream server keeps its certificate: %s cannot be used: %s", self._files(), error)
        return self._context

    def _files(self) -> list[str]:
        section = self._section
        return [path for path in (section.tls_cert, section.tls_key, section.tls_ca) if path]

    def _current_stamp(self) -> _Stamp:
        found: list[tuple[int, int, int]] = []
        for path in self._files():
            try:
                state = os.stat(path)
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((state.st_ino, state.st_mtime_ns, state.st_size))
        return tuple(found)

    def _load(self) -> ssl.SSLContext:
        section = self._section
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(section.tls_cert, section.tls_key or None)
        if section.tls_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(section.tls_ca)
        return context
