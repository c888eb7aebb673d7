"""TLS settings of a registry: the system's CAs, and what certs_dir adds for the host.

By containers-certs.d(5), `<certs_dir>/<host[:port]>/*.crt` are further CAs, and `NAME.cert` with `NAME.key` is a client
certificate. They are read when a connection needs them, and again when a file changes. Private keys stay in the
context. Used in threads.
"""

from __future__ import annotations

import os
import ssl
import threading
from pathlib import Path

from kernel.errors import FailedPrecondition
from services.image.registry.transport import TlsContexts

_Signature = tuple[tuple[str, int, int], ...]


class Certificates:
    """TLS contexts by registry, kept until their files change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._contexts: dict[tuple[_Signature, bool], ssl.SSLContext] = {}

    def of(self, registry: str) -> TlsContexts:
        """Return the contexts for an endpoint's connections; `registry` is `host[:port]` and has been checked."""
        return lambda verified: self._context(self._folder / registry, verified=verified)

    def _context(self, folder: Path, *, verified: bool) -> ssl.SSLContext:
        with self._lock:
            files = _files(folder)
            key = (tuple((str(file), stat.st_mtime_ns, stat.st_size) for file, stat in files), verified)
            if key not in self._contexts:
                # the files of a registry may change often, and each context takes a megabyte
                stale = [known for known in self._contexts if known[0] and known[1] == verified]
                for known in stale if len(stale) >= 8 else []:
                    del self._contexts[known]
                self._contexts[key] = _make([file for file, _ in files], verified=verified)
            return self._contexts[key]


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    try:
        return [(file, file.stat()) for file in sorted(folder.iterdir()) if file.suffix in (".crt", ".cert", ".key")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FailedPrecondition(f"certificates in {folder} cannot be read: {error.strerror}") from error


def _make(files: list[Path], *, verified: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if verified:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for file in files:
        try:
            if file.suffix == ".crt":
                context.load_verify_locations(cafile=file)
            elif file.suffix == ".cert":
                context.load_cert_chain(file, file.with_suffix(".key"))
        except (OSError, ssl.SSLError) as error:
            raise FailedPrecondition(f"certificate {file} cannot be used: {error.strerror or error}") from error
    return context
