"""The two steps of a pull: resolve a reference, and fetch each blob, both over several endpoints.

Blocks; runs in threads of the worker's pool, one `Job` each. A download that stalls or breaks off is tried again after
a pause, longer each time, and continues after the bytes it has, also at another endpoint: the digest decides in the
end whether the blob is right.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence

from kernel.config.sections import Config
from kernel.contracts.image import Resolved
from kernel.contracts.oci import Descriptor
from kernel.errors import CrispError
from kernel.formats.reference import Reference
from services.image.blobs import BlobFolder
from services.image.credentials import RequestCredentials
from services.image.documents import configuration, manifest, selection, untrusted
from services.image.documents.platforms import Platform
from services.image.download import Download, OwnDiskFailed
from services.image.endpoints import Endpoints
from services.image.jobs import Job
from services.image.registry.distribution import Repository
from services.image.registry.failures import is_transient
from services.image.registry.registries import Endpoint

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0
"""The most seconds before a download is tried again."""
_PROGRESS = 64 << 10
"""Bytes that an attempt must bring so that the next failure counts as the first."""


class Puller:
    """Resolves references and fetches blobs."""

    def __init__(self, config: Config, blobs: BlobFolder, platform: Platform, endpoints: Endpoints) -> None:
        self._foreign = config.image.foreign_layers
        self._retries = config.image.download_retries
        self._blobs = blobs
        self._platform = platform
        self._endpoints = endpoints

    def resolve(self, job: Job, reference: Reference, credentials: RequestCredentials) -> Resolved:
        """Return the manifest for the platform and its configuration, from the first endpoint that has them."""
        endpoints = self._endpoints.of(reference)
        return self._endpoints.first(
            job, endpoints, reference, credentials, lambda repository: self._resolve(repository, reference)
        )

    def fetch(
        self,
        job: Job,
        reference: Reference,
        blob: Descriptor,
        credentials: RequestCredentials,
        arrived: Callable[[int], None],
    ) -> None:
        """Download a blob into the folder. `arrived` is called with the number of bytes so far."""
        endpoints = self._endpoints.of_blobs(reference)
        arrived(0)
        with self._blobs.resume(blob, job.given_up) as incoming:
            self._blobs.check_room(blob.size - incoming.size)
            try:
                self._complete(job, endpoints, reference, blob, credentials, Download(incoming, arrived))
            except OwnDiskFailed as failure:
                raise failure.error from failure
            incoming.commit()

    def _complete(
        self,
        job: Job,
        endpoints: Sequence[Endpoint],
        reference: Reference,
        blob: Descriptor,
        credentials: RequestCredentials,
        download: Download,
    ) -> None:
        """Have all bytes of a blob written and verified, in as many attempts as make progress."""
        failed = 0
        while True:
            before = download.incoming.size
            try:
                return self._endpoints.first(
                    job, endpoints, reference, credentials, lambda repository: download.complete(repository, blob)
                )
            except CrispError as error:
                failed = 1 if download.incoming.size - before >= _PROGRESS else failed + 1
                if not is_transient(error) or failed > self._retries:
                    raise
                _LOG.info("blob %s: trying again after %d bytes: %s", blob.digest, download.incoming.size, error)
            longest = min(_FIRST_PAUSE * 2 ** (failed - 1), _LONGEST_PAUSE)
            job.pause(longest * random.uniform(0.5, 1))

    def _resolve(self, repository: Repository, reference: Reference) -> Resolved:
        what = f"image {reference}"
        data, content_type, digest = repository.manifest(reference.digest or reference.tag, what)
        source = repository.source_of(what)
        top = manifest.parse(data, content_type, source, foreign=self._foreign)
        parsed, below = selection.descend(
            top,
            self._platform,
            source,
            lambda entry: repository.manifest(entry.digest, what)[:2],
            foreign=self._foreign,
        )
        documents = (data, *below)
        config = repository.small_blob(parsed.config, manifest.SIZE_LIMIT, f"configuration of {what}")
        configuration.check(config, len(parsed.layers), None if below else self._platform, source)
        return Resolved(
            name=reference.name,
            tag=reference.tag,
            digest=digest,
            manifest_digest=untrusted.digest_of(documents[-1]),
            documents=documents,
            config=config,
            layers=parsed.layers,
        )
