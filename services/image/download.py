"""Writes one blob into its file, from several answers, perhaps of several endpoints. Runs in a job's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt, CrispError, Internal, ResourceExhausted
from services.image.blobs import Incoming
from services.image.registry.distribution import Repository

_LOG = logging.getLogger(__name__)


class OwnDiskFailed(Exception):
    """The disk of this host failed, so no other endpoint can help. Not a CrispError, which would be an endpoint's."""

    def __init__(self, error: CrispError) -> None:
        super().__init__(str(error))
        self.error = error


class Download:
    """The bytes of a blob so far, and the endpoints that they came from."""

    def __init__(self, incoming: Incoming, arrived: Callable[[int], None]) -> None:
        """`arrived` is called with the number of bytes so far."""
        self.incoming = incoming
        self._arrived = arrived
        self._etags: dict[str, str] = {}
        self._sources = {"the disk"} if incoming.size else set()

    def complete(self, repository: Repository, blob: Descriptor) -> None:
        """Get the bytes that are missing and verify all. Corrupt if the bytes, all from this endpoint, are wrong.

        If only some are from it, the blob is downloaded from it again, from the first byte on.
        """
        while True:
            try:
                return self._get_rest(repository, blob)
            except Corrupt:
                others = self._sources - {repository.name}
                self._restart()
                if not others:
                    raise
                _LOG.info("blob %s: its first bytes were wrong; it is downloaded from the first byte on", blob.digest)

    def _get_rest(self, repository: Repository, blob: Descriptor) -> None:
        incoming = self.incoming
        if incoming.size < blob.size or not blob.size:
            etag = self._etags.get(repository.name, "")
            body = repository.blob(blob, f"blob {blob.digest}", incoming.size, etag)
            self._etags[repository.name] = body.etag
            if body.offset != incoming.size:
                self._restart()
            for piece in body.pieces():
                self._sources.add(repository.name)
                with _own_disk():
                    incoming.write(piece)
                self._arrived(incoming.size)
        with _own_disk():
            incoming.seal(blob.digest, repository.source_of("the download"))

    def _restart(self) -> None:
        self._sources.clear()
        with _own_disk():
            self.incoming.restart()


@contextmanager
def _own_disk() -> Iterator[None]:
    try:
        yield
    except (ResourceExhausted, Internal) as error:
        raise OwnDiskFailed(error) from error
