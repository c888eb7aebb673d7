"""The image worker's bus methods: each checks, joins what already runs, and waits within the caller's deadline.

Runs as `crisp-image` without capabilities; may write only below `<root>/image`. Registries are talked to and
files are written in a bounded pool of threads; the event loop only waits. Credentials live as long as the call
(tokens for minutes, in memory) and reach no log, error or file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from kernel.config.sections import Config
from kernel.contracts.contract import Nothing
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
from kernel.ids import Digest, digest
from services.image.archives import archive_loading
from services.image.blobs import BlobFolder
from services.image.documents import manifest
from services.image.pull import Job, Keys, Puller
from services.image.registry import challenge
from services.image.transfer import Transfer

if TYPE_CHECKING:
    from kernel.bus.worker import Call

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)
_SMALL_JOBS = 16
"""Threads for manifests and archives: so many slow registries do not keep others from being asked."""
_SPARE = 4
"""Threads beyond the downloads' own: a given-up job may hold one a moment longer."""
_DOCUMENTS = 8
_SIZE_LIMIT = 1 << 50
_COLLECT_SECONDS = 3600.0


async def create(config: Config) -> ImageService:
    """The worker's service, its folders ready."""
    text = config.image.platform
    platform = manifest.parse_platform(text) if text else manifest.host_platform(os.uname().machine)
    blobs = BlobFolder(config.paths.blobs)
    await asyncio.to_thread(blobs.prepare)
    return ImageService(config, blobs, platform)


class ImageService:
    """One coroutine per method of the contract."""

    def __init__(self, config: Config, blobs: BlobFolder, platform: manifest.Platform) -> None:
        self._blobs = blobs
        self._platform = platform
        self._incoming = config.paths.incoming
        self._puller = Puller(config, blobs, platform)
        downloads = max(1, config.image.parallel_downloads)
        self._slots = asyncio.Semaphore(downloads)
        self._downloading = ThreadPoolExecutor(downloads + _SPARE, thread_name_prefix="download")
        self._small = ThreadPoolExecutor(_SMALL_JOBS, thread_name_prefix="small")
        self._tasks = Tasks()
        self._loads: Joins[str, Loaded] = Joins(self._tasks)
        self._transfers: dict[Digest, Transfer] = {}
        self._jobs: set[Job] = set()
        self._tasks.start(self._collect(), "collect partial blobs")

    async def wanted(self, request: ResolveRequest, call: Call) -> Wanted:
        """Which credential helpers a pull may need."""
        wanted, keys = reference.parse(request.reference), _keys(request)
        async with call.deadline.limit(f"image {wanted}"):
            return Wanted(helpers=await asyncio.to_thread(self._puller.wanted, wanted, keys))

    async def resolve(self, request: ResolveRequest, call: Call) -> Resolved:
        """Find what a reference names, for the platform."""
        wanted, keys = reference.parse(request.reference), _keys(request)
        async with call.deadline.limit(f"image {wanted}"):
            return await self._in_thread(self._small, lambda job: self._puller.resolve(job, wanted, keys))

    async def signatures(self, request: SignaturesRequest, call: Call) -> Signatures:
        """Find the signatures of an image."""
        image, keys = reference.parse(request.reference), _keys(request)
        digests = [digest(value) for value in request.digests]
        async with call.deadline.limit(f"signatures of image {image}"):
            found = await self._in_thread(
                self._small, lambda job: self._puller.signatures_of(job, image, digests, keys)
            )
        return Signatures(signatures=found)

    async def fetch(self, request: FetchRequest, call: Call) -> Nothing:
        """Download a blob, or join whoever does already."""
        name = reference.parse(request.reference)
        blob, keys = _checked(request.blob), _keys(request)
        async with call.deadline.limit(f"blob {blob.digest} of {name.name}"):
            while not await asyncio.to_thread(self._blobs.has, blob):
                transfer = self._transfers.get(blob.digest)
                if transfer is None:
                    transfer = self._begin(name, request, keys)
                try:
                    async for done in transfer.follow():
                        await call.progress(Progress(digest=blob.digest, done=done, total=blob.size))
                except CrispError:
                    if transfer.source == _source(request):
                        raise
                    # another's repository or credentials failed, or its wrong idea of the size: try our own
        await call.progress(Progress(digest=blob.digest, done=blob.size, total=blob.size))
        return Nothing()

    async def keep(self, request: KeepRequest, call: Call) -> Nothing:
        """Put an image's documents among the blobs."""
        if len(request.documents) > _DOCUMENTS or any(len(data) > manifest.SIZE_LIMIT for data in request.documents):
            raise InvalidInput(f"documents: more than {_DOCUMENTS}, or one of more than {manifest.SIZE_LIMIT} bytes")
        async with call.deadline.limit("keeping documents"):
            await asyncio.to_thread(self._blobs.keep, request.documents)
        return Nothing()

    async def load(self, request: LoadRequest, call: Call) -> Loaded:
        """Read an archive of the folder `incoming`."""
        name = request.archive
        async with call.deadline.limit(f"archive {name[:200]!a}"):
            if not self._loads.running(name):
                self._loads.begin(name, self._load(name), f"load {name}")
            return await self._loads.wait(name)

    async def drop(self, request: DropRequest, call: Call) -> Nothing:
        """Remove blobs; a download under way that nobody waits for ends, one that is awaited goes on."""
        digests = [digest(value) for value in request.digests]
        async with call.deadline.limit("dropping blobs"):
            abandoned = [self._transfers[value] for value in digests if value in self._transfers]
            for transfer in abandoned:
                if not transfer.followers:
                    await transfer.stop()
            gone = [value for value in digests if value not in self._transfers]
            await asyncio.to_thread(self._blobs.drop, gone, partial=request.partial, aside=request.aside)
        return Nothing()

    async def blobs(self, request: Nothing, call: Call) -> Blobs:
        """What lies in the blob folder."""
        async with call.deadline.limit("listing blobs"):
            return Blobs(blobs=await asyncio.to_thread(self._blobs.sizes))

    async def close(self) -> None:
        """End all work; what downloads have brought so far stays for the next worker."""
        await self._tasks.close()
        for job in list(self._jobs):
            job.give_up()
        for pool in (self._downloading, self._small):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    def _begin(self, name: reference.Reference, request: FetchRequest, keys: Keys) -> Transfer:
        blob = request.blob
        loop, transfer = asyncio.get_running_loop(), Transfer(_source(request))

        def arrived(done: int) -> None:
            if transfer.notable(done):
                loop.call_soon_threadsafe(transfer.arrived, done)

        async def attempt() -> None:
            async with self._slots, Deadline.after(FETCH.deadline).limit(f"blob {blob.digest} of {name.name}"):
                job, work = self._thread(
                    self._downloading, lambda job: self._puller.fetch(job, name, blob, keys, arrived)
                )
                transfer.work = work
                await self._result(job, work)

        self._transfers[blob.digest] = transfer
        task = self._tasks.start(attempt(), f"fetch {blob.digest}")
        transfer.run(task, lambda: self._transfers.pop(blob.digest, None))
        return transfer

    async def _collect(self) -> None:
        """Drop what downloads left that nobody went on with for a day."""
        while True:
            await asyncio.sleep(_COLLECT_SECONDS)
            try:
                await asyncio.to_thread(self._blobs.collect, time.time())
            except CrispError as error:
                _LOG.warning("broken-off downloads stay: %s", error)

    async def _load(self, name: str) -> Loaded:
        async with Deadline.after(LOAD.deadline).limit(f"archive {name[:200]!a}"):
            return await self._in_thread(
                self._small,
                lambda job: archive_loading.load(self._incoming, name, self._blobs, self._platform, job.given_up),
            )

    async def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[[Job], _T]) -> _T:
        """Run a job's blocking work; where the caller is cancelled, the job is made to end."""
        return await self._result(*self._thread(pool, work))

    def _thread(self, pool: ThreadPoolExecutor, work: Callable[[Job], _T]) -> tuple[Job, asyncio.Future[_T]]:
        job = Job()
        self._jobs.add(job)
        future = asyncio.get_running_loop().run_in_executor(pool, work, job)
        future.add_done_callback(lambda done: self._ended(job, done))
        return job, future

    async def _result(self, job: Job, future: asyncio.Future[_T]) -> _T:
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            job.give_up()
            raise

    def _ended(self, job: Job, done: asyncio.Future[_T]) -> None:
        self._jobs.discard(job)
        if job.given_up() and not done.cancelled() and (error := done.exception()) is not None:
            _LOG.debug("a job that was given up ended: %s", error)


def _keys(request: ResolveRequest | SignaturesRequest | FetchRequest) -> Keys:
    helped = {server: challenge.check_credentials(auth) for server, auth in request.helped.items()}
    return Keys(challenge.check_credentials(request.auth), request.namespace, helped)


def _source(request: FetchRequest) -> tuple[object, ...]:
    return (request.reference, request.blob.size, request.auth, request.namespace, tuple(request.helped.items()))


def _checked(blob: Descriptor) -> Descriptor:
    digest(blob.digest)
    if not 0 <= blob.size <= _SIZE_LIMIT:
        raise InvalidInput(f"blob.size {blob.size} is not between 0 and {_SIZE_LIMIT}")
    return blob
