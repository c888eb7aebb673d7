"""The steps of a pull that talk to registries: resolve a reference, fetch a blob, each over several endpoints.

Blocking; runs in threads of the worker's pool, one `Job` each. Endpoints are tried in the configured order; the
last one is the registry itself, so what it says decides which error comes out, and the others are named beside it.
A download that stalls or breaks off is tried again after a pause, longer each time, and goes on where it was, also
at another endpoint: the digest decides in the end.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from kernel.config.registries_reader import RegistriesReader
from kernel.config.sections import Config
from kernel.contracts.image import Resolved
from kernel.contracts.oci import Auth, Descriptor, Signature
from kernel.errors import (
    Cancelled,
    Corrupt,
    CrispError,
    FailedPrecondition,
    Internal,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
)
from kernel.formats.reference import Reference
from kernel.formats.registries_conf import AUTH_FILE
from kernel.ids import Digest
from services.image import signatures
from services.image.blobs import BlobFolder, Incoming
from services.image.credentials import Credentials, Helper
from services.image.documents import manifest
from services.image.documents.manifest import Manifest, Platform
from services.image.documents.registries_d import RegistriesD
from services.image.registry import address, proxies
from services.image.registry.certificates import Certificates
from services.image.registry.distribution import Repository, Tokens
from services.image.registry.registries import Endpoint, plan
from services.image.registry.transport import Transport, is_passing

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)
_REMEMBERED = 512
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0
"""Seconds before a download is tried again."""
_WORTH = 64 << 10
"""Bytes that an attempt must bring so that the next one counts as the first."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a pull may be asked with."""

    auth: Auth = field(default_factory=Auth)
    """The request's own."""
    namespace: str = ""
    """Of the pod that it is for."""
    helped: Mapping[str, Auth] = field(default_factory=dict)
    """What credential helpers gave, by server."""


class Job:
    """One piece of work in a thread, which the event loop can make end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._transport: Transport | None = None

    def given_up(self) -> bool:
        """Whether nobody wants the result any more."""
        return self._given_up.is_set()

    def pause(self, seconds: float) -> None:
        """Wait; Cancelled once given up."""
        if self._given_up.wait(seconds):
            raise Cancelled("given up")

    def give_up(self) -> None:
        """From the event loop: end at the next moment."""
        with self._lock:
            self._given_up.set()
            if self._transport is not None:
                self._transport.abort()

    def over(self, transport: Transport) -> None:
        """The job's thread goes on over these connections."""
        with self._lock:
            self._transport = transport
            if self._given_up.is_set():
                raise Cancelled("given up")


class _OwnFiles(Exception):
    """Our own disk failed: no endpoint can help."""

    def __init__(self, error: CrispError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _own_files() -> Iterator[None]:
    try:
        yield
    except (ResourceExhausted, Internal) as error:
        raise _OwnFiles(error) from error


class _Download:
    """A blob on its way into its file, over several answers, maybe of several endpoints."""

    def __init__(self, incoming: Incoming, arrived: Callable[[int], None]) -> None:
        self.incoming = incoming
        self._arrived = arrived
        self._etags: dict[str, str] = {}
        self._sources = {"the disk"} if incoming.size else set()

    def go_on(self, repository: Repository, blob: Descriptor) -> None:
        """Get the bytes that are missing; Corrupt where this endpoint's bytes, all its own, are not the blob."""
        while True:
            try:
                return self._rest(repository, blob)
            except Corrupt:
                others = self._sources - {repository.name}
                self._restart()
                if not others:
                    raise
                _LOG.info("blob %s: what was there of it is wrong: from the first byte again", blob.digest)

    def _rest(self, repository: Repository, blob: Descriptor) -> None:
        incoming = self.incoming
        if incoming.size < blob.size or not blob.size:
            etag = self._etags.get(repository.name, "")
            body = repository.blob(blob, f"blob {blob.digest}", incoming.size, etag)
            self._etags[repository.name] = body.etag
            if body.offset != incoming.size:
                self._restart()
            for chunk in body.pieces():
                self._sources.add(repository.name)
                with _own_files():
                    incoming.write(chunk)
                self._arrived(incoming.size)
        with _own_files():
            incoming.seal(blob.digest, repository.says("the download"))

    def _restart(self) -> None:
        self._sources.clear()
        with _own_files():
            self.incoming.restart()


class Puller:
    """Everything that pulls share: rules, certificates, tokens, and which endpoint served what."""

    def __init__(self, config: Config, blobs: BlobFolder, platform: Platform) -> None:
        self._timeout = config.image.progress_timeout
        self._foreign = config.image.foreign_layers
        self._retries = config.image.download_retries
        self._blobs = blobs
        self._platform = platform
        self._registries = RegistriesReader(Path(config.image.registries_conf))
        self._certificates = Certificates(Path(config.image.certs_dir))
        file = config.image.global_auth_file
        folder = config.image.namespaced_auth_dir
        self._credentials = Credentials(Path(file) if file else None, Path(folder) if folder else None)
        self._places = RegistriesD(Path(config.image.registries_d))
        self._lookaside = next(map(Path, config.image.lookaside_dirs), None)
        self._helped = bool(config.image.credential_helper_dir)
        self._proxies = proxies.parse(config.image.http_proxy, config.image.https_proxy, config.image.no_proxy)
        self._tokens = Tokens()
        self._token_servers = frozenset(config.image.token_servers)
        self._schemes: dict[str, str] = {}
        self._served: dict[str, Endpoint] = {}

    def wanted(self, reference: Reference, keys: Keys) -> dict[str, tuple[str, ...]]:
        """The credential helpers that may have what a pull needs, by server."""
        found: dict[str, tuple[str, ...]] = {}
        for endpoint in plan(reference, self._registries.conf().registries):
            named = self._named(endpoint, reference, keys)
            if not isinstance(named, Auth) and named:
                found[named[0].server] = tuple(helper.name for helper in named)
        return found

    def resolve(self, job: Job, reference: Reference, keys: Keys) -> Resolved:
        """The manifest for the platform and its configuration, from the first endpoint that has them."""
        endpoints = plan(reference, self._registries.conf().registries)
        return self._first(job, endpoints, reference, keys, lambda found: self._resolve(found, reference))

    def signatures_of(self, job: Job, image: Reference, digests: Sequence[Digest], keys: Keys) -> tuple[Signature, ...]:
        """All signatures of these digests where registries.d says that they are."""
        places, found = self._places.places(image), signatures.Found(image)
        for digest in digests:
            if places.attachments:
                self._attached(job, image, digest, keys, found)
            if places.lookaside:
                self._stored(job, places.lookaside, image, digest, found)
            elif self._lookaside is not None:
                signatures.stored(signatures.from_folder(self._lookaside, asked=False), image, digest, found)
        return found.all

    def _attached(self, job: Job, image: Reference, digest: Digest, keys: Keys, found: signatures.Found) -> None:
        tagged = Reference(image.registry, image.path, signatures.tag_of(digest), None)
        endpoints = plan(tagged, self._registries.conf().registries)
        with suppress(NotFound):  # it is not signed
            self._first(job, endpoints, tagged, keys, lambda at: signatures.attached(at, digest, found), remember=False)

    def _stored(self, job: Job, store: str, image: Reference, digest: Digest, found: signatures.Found) -> None:
        if store.startswith("file://"):
            return signatures.stored(signatures.from_folder(Path(store.removeprefix("file://"))), image, digest, found)
        url = address.parse(store)
        host, scheme = str(url.origin), url.origin.scheme
        tls = self._certificates.of(host)
        with Transport(tls, insecure=scheme == "http", timeout=self._timeout, proxies=self._proxies) as transport:
            job.over(transport)
            base = address.Url(transport.open(host, {host: scheme}), url.target)
            return signatures.stored(signatures.from_server(transport, base), image, digest, found)

    def fetch(self, job: Job, name: Reference, blob: Descriptor, keys: Keys, arrived: Callable[[int], None]) -> None:
        """Put a blob into the folder. `arrived` is told how many bytes there are so far."""
        endpoints = plan(name, self._registries.conf().registries)
        if (served := self._served.get(name.name)) in endpoints:
            endpoints = (served, *(other for other in endpoints if other != served))
        arrived(0)
        with self._blobs.resume(blob, job.given_up) as incoming:
            self._blobs.check_room(blob.size - incoming.size)
            try:
                self._complete(job, endpoints, name, blob, keys, _Download(incoming, arrived))
            except _OwnFiles as failure:
                raise failure.error from failure
            incoming.commit()

    def _complete(
        self,
        job: Job,
        endpoints: Sequence[Endpoint],
        name: Reference,
        blob: Descriptor,
        keys: Keys,
        download: _Download,
    ) -> None:
        """Have all bytes of a blob written and verified, in as many attempts as bring it on."""
        failed = 0
        while True:
            before = download.incoming.size
            try:
                return self._first(job, endpoints, name, keys, lambda found: download.go_on(found, blob))
            except CrispError as error:
                failed = 1 if download.incoming.size - before >= _WORTH else failed + 1
                if not is_passing(error) or failed > self._retries:
                    raise
                _LOG.info("blob %s: trying again behind %d bytes: %s", blob.digest, download.incoming.size, error)
            longest = min(_FIRST_PAUSE * 2 ** (failed - 1), _LONGEST_PAUSE)
            job.pause(longest * random.uniform(0.5, 1))

    def _resolve(self, repository: Repository, reference: Reference) -> Resolved:
        what = f"image {reference}"
        data, content_type, digest = repository.manifest(reference.digest or reference.tag, what)
        says = repository.says(what)
        top = manifest.parse(data, content_type, says, foreign=self._foreign)
        parsed, below = manifest.descend(
            top, self._platform, says, lambda entry: repository.manifest(entry.digest, what)[:2], foreign=self._foreign
        )
        documents = (data, *below)
        chosen = Digest(f"sha256:{hashlib.sha256(documents[-1]).hexdigest()}")
        config = repository.small_blob(parsed.config, manifest.SIZE_LIMIT, f"configuration of {what}")
        manifest.check_config(config, len(parsed.layers), None if below else self._platform, says)
        return _resolved(reference, digest, chosen, documents, config, parsed)

    def _first(
        self,
        job: Job,
        endpoints: Sequence[Endpoint],
        reference: Reference,
        keys: Keys,
        step: Callable[[Repository], _T],
        *,
        remember: bool = True,
    ) -> _T:
        """What the first endpoint gives that can do the step."""
        failures: list[CrispError] = []
        for endpoint in endpoints:
            transport = Transport(
                self._certificates.of(endpoint.registry),
                insecure=endpoint.insecure,
                timeout=self._timeout,
                proxies=self._proxies,
            )
            try:
                found = self._credentials_for(endpoint, reference, keys)
                with transport:
                    job.over(transport)
                    home = transport.open(endpoint.host, self._schemes)
                    result = step(Repository(transport, home, *found, self._tokens, self._token_servers))
            except (Cancelled, InvalidInput):
                raise
            except CrispError as error:
                failures.append(error)
            else:
                if remember:
                    self._remember(reference.name, endpoint)
                return result
        raise _together(failures)

    def _credentials_for(self, endpoint: Endpoint, reference: Reference, keys: Keys) -> tuple[Endpoint, Auth]:
        """What an endpoint is asked with: the request's credentials are for the reference's own registry first of all,
        the node's are for whom they name."""
        named = self._named(endpoint, reference, keys)
        if not isinstance(named, Auth):
            helped = next((keys.helped[helper.server] for helper in named if helper.server in keys.helped), Auth())
            if helped == Auth() and (certain := next((helper for helper in named if helper.certain), None)):
                raise self._unhelped(endpoint, certain)
            named = helped
        return (endpoint, keys.auth) if named == Auth() else (replace(endpoint, credentials=True), named)

    def _named(self, endpoint: Endpoint, reference: Reference, keys: Keys) -> Auth | tuple[Helper, ...]:
        """The node's credentials for an endpoint; none where the request's own are for it."""
        if keys.auth != Auth() and endpoint.registry == reference.registry.lower():
            return ()
        helpers = [name for name in self._registries.conf().helpers if name != AUTH_FILE]
        return self._credentials.of(
            endpoint.registry, endpoint.path, namespace=keys.namespace, name=reference.name, helpers=helpers
        )

    def _unhelped(self, endpoint: Endpoint, helper: Helper) -> CrispError:
        what = f"registry {endpoint.registry}: credential helper {helper.name}, which an auth file names for it,"
        if not self._helped:
            return FailedPrecondition(
                f"{what} may not be run",
                hint="image.credential_helper_dir says where helpers lie; or put the credentials into auths",
            )
        return Unauthenticated(f"{what} has no credentials")

    def _remember(self, name: str, endpoint: Endpoint) -> None:
        if len(self._served) >= _REMEMBERED:
            self._served.pop(next(iter(self._served)))
        self._served[name] = endpoint


def _resolved(
    reference: Reference,
    digest: Digest,
    chosen: Digest,
    documents: tuple[bytes, ...],
    config: bytes,
    parsed: Manifest,
) -> Resolved:
    return Resolved(
        name=reference.name,
        tag=reference.tag,
        digest=digest,
        manifest_digest=chosen,
        documents=documents,
        config=config,
        layers=parsed.layers,
    )


def _together(failures: Sequence[CrispError]) -> CrispError:
    """One error of several endpoints: the registry's own, which came last, and what the mirrors said."""
    *mirrors, own = failures
    if not mirrors:
        return own
    text = "; ".join(f"mirror: {error.message}" for error in mirrors)
    together = type(own)(f"{own.message} ({text})", hint=own.hint)
    together.__cause__ = next((error.__cause__ for error in (own, *mirrors) if is_passing(error)), own)
    return together
