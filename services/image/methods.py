"""The image worker's bus methods: each checks, joins work under way, and waits within the caller's deadline.

Runs as `crisp-image` without capabilities; may write only below `<root>/image`. Requests to registries and work on
files are done in bounded pools of threads; the event loop only waits. Credentials live as long as the call (tokens for
minutes, in memory) and reach no log, error or file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING

from kernel.config.sections import Config
from kernel.contracts.definition import Nothing
from kernel.contracts.image import (
    FETCH,
    LOAD,
    Blobs,
    DropRequest,
    FetchRequest,
    KeepRequest,
    Loaded,
    LoadRequest,
    Progress,
    Resolved,
    ResolveRequest,
    Signatures,
    SignaturesRequest,
    Wanted,
)
from kernel.contracts.oci import Descriptor
from kernel.errors import CrispError, InvalidInput
from kernel.formats import reference
from kernel.host.aio import Deadline, Joins, Tasks
from kernel.ids import digest
from services.image.archives import archive_loading
from services.image.blobs import BlobFolder
from services.image.credentials import RequestCredentials
from services.image.documents import auth_file, manifest, platforms
from services.image.documents.platforms import Platform
from services.image.endpoints import Endpoints
from services.image.jobs import Jobs
from services.image.pull import Puller
from services.image.signatures.search import SignatureSearch
from services.image.transfer import Transfer, Transfers

if TYPE_CHECKING:
    from kernel.bus.worker import Call

_LOG = logging.getLogger(__name__)
_SMALL_JOBS = 16
"""Threads for manifests and archives: fewer slow registries than this cannot delay requests to the others."""
_SPARE = 4
"""Threads beyond those for downloads: a job that was given up may keep one a moment longer."""
_DOCUMENTS = 8
"""The most documents that are kept at a time."""
_SIZE_LIMIT = 1 << 50
"""The most bytes of a blob."""
_COLLECT_SECONDS = 3600.0


async def create(config: Config) -> ImageService:
    """Return the worker's service, with its folders ready."""
    text = config.image.platform
    platform = platforms.parse(text) if text else platforms.of_host(os.uname().machine)
    blobs = BlobFolder(config.paths.blobs)
    await asyncio.to_thread(blobs.prepare)
    return ImageService(config, blobs, platform)


class ImageService:
    """Serves `kernel.contracts.image`: one coroutine for each method."""

    def __init__(self, config: Config, blobs: BlobFolder, platform: Platform) -> None:
        self._blobs = blobs
        self._platform = platform
        self._incoming = config.paths.incoming
        self._endpoints = Endpoints(config)
        self._puller = Puller(config, blobs, platform, self._endpoints)
        self._signature_search = SignatureSearch(config, self._endpoints)
        downloads = max(1, config.image.parallel_downloads)
        self._slots = asyncio.Semaphore(downloads)
        self._downloads = Jobs(downloads + _SPARE, "download")
        self._small_jobs = Jobs(_SMALL_JOBS, "small")
        self._tasks = Tasks()
        self._loads: Joins[str, Loaded] = Joins(self._tasks)
        self._transfers = Transfers(self._tasks)
        self._tasks.spawn(self._collect(), "collect partial blobs")

    async def wanted(self, request: ResolveRequest, call: Call) -> Wanted:
        """Return the credential helpers that a pull may need."""
        image, credentials = reference.parse(request.reference), _credentials_of(request)
        async with call.deadline.limit(f"image {image}"):
            return Wanted(helpers=await asyncio.to_thread(self._endpoints.helpers, image, credentials))

    async def resolve(self, request: ResolveRequest, call: Call) -> Resolved:
        """Find the image that a reference names, for the platform."""
        image, credentials = reference.parse(request.reference), _credentials_of(request)
        async with call.deadline.limit(f"image {image}"):
            return await self._small_jobs.run(lambda job: self._puller.resolve(job, image, credentials))

    async def signatures(self, request: SignaturesRequest, call: Call) -> Signatures:
        """Find the signatures of an image."""
        image, credentials = reference.parse(request.reference), _credentials_of(request)
        digests = [digest(value) for value in request.digests]
        async with call.deadline.limit(f"signatures of image {image}"):
            found = await self._small_jobs.run(
                lambda job: self._signature_search.find(job, image, digests, credentials)
            )
        return Signatures(signatures=found)

    async def fetch(self, request: FetchRequest, call: Call) -> Nothing:
        """Download a blob, or join the download that runs already."""
        image = reference.parse(request.reference)
        blob, credentials = _checked(request.blob), _credentials_of(request)
        async with call.deadline.limit(f"blob {blob.digest} of {image.name}"):
            while not await asyncio.to_thread(self._blobs.has, blob):
                transfer = self._transfers.running(blob.digest) or self._begin(image, request, credentials)
                try:
                    async for done in transfer.follow():
                        await call.progress(Progress(digest=blob.digest, done=done, total=blob.size))
                except CrispError:
                    if transfer.source == _source_of(request):
                        raise
                    # another caller's repository, credentials or size were wrong: try this caller's
        await call.progress(Progress(digest=blob.digest, done=blob.size, total=blob.size))
        return Nothing()

    async def keep(self, request: KeepRequest, call: Call) -> Nothing:
        """Store an image's documents among the blobs."""
        if len(request.documents) > _DOCUMENTS or any(len(data) > manifest.SIZE_LIMIT for data in request.documents):
            raise InvalidInput(f"documents: more than {_DOCUMENTS}, or one of more than {manifest.SIZE_LIMIT} bytes")
        async with call.deadline.limit("keeping documents"):
            await asyncio.to_thread(self._blobs.keep, request.documents)
        return Nothing()

    async def load(self, request: LoadRequest, call: Call) -> Loaded:
        """Read an archive in the folder `incoming`."""
        name = request.archive
        async with call.deadline.limit(f"archive {name[:200]!a}"):
            return await self._loads.join(name, lambda: self._load(name), f"load {name}")

    async def drop(self, request: DropRequest, call: Call) -> Nothing:
        """Remove blobs. A download of one is stopped if no call waits for it, else it goes on."""
        digests = [digest(value) for value in request.digests]
        async with call.deadline.limit("dropping blobs"):
            idle = await self._transfers.stop_unfollowed(digests)
            await asyncio.to_thread(self._blobs.drop, idle, partial=request.partial, aside=request.aside)
        return Nothing()

    async def blobs(self, request: Nothing, call: Call) -> Blobs:
        """Return the blobs in the blob folder."""
        async with call.deadline.limit("listing blobs"):
            return Blobs(blobs=await asyncio.to_thread(self._blobs.sizes))

    async def close(self) -> None:
        """End all work. The bytes that downloads have so far stay for the next worker."""
        await self._tasks.close()
        for jobs in (self._downloads, self._small_jobs):
            await jobs.close()

    def _begin(self, image: reference.Reference, request: FetchRequest, credentials: RequestCredentials) -> Transfer:
        blob, loop = request.blob, asyncio.get_running_loop()

        async def download(transfer: Transfer) -> None:
            def arrived(done: int) -> None:
                if transfer.notable(done):
                    loop.call_soon_threadsafe(transfer.arrived, done)

            async with self._slots, Deadline.after(FETCH.deadline).limit(f"blob {blob.digest} of {image.name}"):
                job, work = self._downloads.start(
                    lambda job: self._puller.fetch(job, image, blob, credentials, arrived)
                )
                transfer.work = work
                await self._downloads.result_of(job, work)

        return self._transfers.begin(blob.digest, _source_of(request), download)

    async def _collect(self) -> None:
        """Remove broken-off downloads that were not continued for a day."""
        while True:
            await asyncio.sleep(_COLLECT_SECONDS)
            try:
                await asyncio.to_thread(self._blobs.collect, time.time())
            except CrispError as error:
                _LOG.warning("broken-off downloads cannot be removed: %s", error)

    async def _load(self, name: str) -> Loaded:
        async with Deadline.after(LOAD.deadline).limit(f"archive {name[:200]!a}"):
            return await self._small_jobs.run(
                lambda job: archive_loading.load(self._incoming, name, self._blobs, self._platform, job.given_up)
            )


def _credentials_of(request: ResolveRequest | SignaturesRequest | FetchRequest) -> RequestCredentials:
    helped = {server: auth_file.check(auth) for server, auth in request.helped.items()}
    return RequestCredentials(auth_file.check(request.auth), request.namespace, helped)


def _source_of(request: FetchRequest) -> tuple[object, ...]:
    return (request.reference, request.blob.size, request.auth, request.namespace, tuple(request.helped.items()))


def _checked(blob: Descriptor) -> Descriptor:
    digest(blob.digest)
    if not 0 <= blob.size <= _SIZE_LIMIT:
        raise InvalidInput(f"blob.size {blob.size} is not between 0 and {_SIZE_LIMIT}")
    return blob
