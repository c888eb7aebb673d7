"""The steps of a pull that talk to registries: resolve a reference, fetch a blob, each over several endpoints.

Blocking; runs in threads of the worker's pool, one `Job` each. Endpoints are tried in the configured order; the
last one is the registry itself, so what it says decides which error comes out, and the others are named beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from kernel.config import Config
from kernel.contracts.image import Resolved
from kernel.contracts.oci import Auth, Descriptor
from kernel.errors import Cancelled, CrispError, FailedPrecondition, InvalidInput
from kernel.ids import Digest
from kernel.reference import Reference
from services.image import manifest
from services.image.blobs import BlobFolder
from services.image.certificates import Certificates
from services.image.distribution import Repository, Tokens
from services.image.manifest import Index, Manifest, Platform
from services.image.registries import Endpoint, Registries, plan
from services.image.transport import Transport

_T = TypeVar("_T")
_REMEMBERED = 512


class Job:
    """One piece of work in a thread, which the event loop can make end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given_up = False
        self._transport: Transport | None = None

    def given_up(self) -> bool:
        """Whether nobody wants the result any more."""
        return self._given_up

    def give_up(self) -> None:
        """From the event loop: end at the next moment."""
        with self._lock:
            self._given_up = True
            if self._transport is not None:
                self._transport.abort()

    def over(self, transport: Transport) -> None:
        """The job's thread goes on over these connections."""
        with self._lock:
            self._transport = transport
            if self._given_up:
                raise Cancelled("given up")


class Puller:
    """Everything that pulls share: rules, certificates, tokens, and which endpoint served what."""

    def __init__(self, config: Config, blobs: BlobFolder, platform: Platform) -> None:
        self._timeout = config.image.progress_timeout
        self._blobs = blobs
        self._platform = platform
        self._registries = Registries(Path(config.image.registries_conf))
        self._certificates = Certificates(Path(config.image.certs_dir))
        self._tokens = Tokens()
        self._token_servers = frozenset(config.image.token_servers)
        self._schemes: dict[str, str] = {}
        self._served: dict[str, Endpoint] = {}

    def resolve(self, job: Job, reference: Reference, auth: Auth) -> Resolved:
        """The manifest for the platform and its configuration, from the first endpoint that has them."""
        endpoints = plan(reference, self._registries.rules())
        return self._first(job, endpoints, reference, auth, lambda found: self._resolve(found, reference))

    def fetch(self, job: Job, name: Reference, blob: Descriptor, auth: Auth, arrived: Callable[[int], None]) -> None:
        """Put a blob into the folder. `arrived` is told how many bytes there are so far."""
        self._blobs.check_room(blob.size)
        endpoints = plan(name, self._registries.rules())
        if (served := self._served.get(name.name)) in endpoints:
            endpoints = (served, *(other for other in endpoints if other != served))
        self._first(job, endpoints, name, auth, lambda found: self._fetch(found, blob, arrived))

    def _resolve(self, repository: Repository, reference: Reference) -> Resolved:
        what = f"image {reference}"
        data, content_type, digest = repository.manifest(reference.digest or reference.tag, what)
        parsed, chosen = manifest.parse(data, content_type, repository.says(what)), digest
        documents = [data]
        if isinstance(parsed, Index):
            entry = manifest.choose(parsed, self._platform, repository.says(what))
            data, content_type, chosen = repository.manifest(entry.digest, what)
            manifest.verify(data, entry, repository.says(what))
            documents.append(data)
            parsed = manifest.parse(data, content_type, repository.says(what))
        if not isinstance(parsed, Manifest):
            raise FailedPrecondition(f"{repository.says(what)}: an index within an index")
        config = repository.small_blob(parsed.config, manifest.SIZE_LIMIT, f"configuration of {what}")
        manifest.check_config(config, len(parsed.layers), repository.says(what))
        return _resolved(reference, digest, chosen, tuple(documents), config, parsed)

    def _fetch(self, repository: Repository, blob: Descriptor, arrived: Callable[[int], None]) -> None:
        arrived(0)
        with self._blobs.begin() as incoming:
            for chunk in repository.blob(blob, f"blob {blob.digest}"):
                incoming.write(chunk)
                arrived(incoming.size)
            incoming.seal(blob.digest, repository.says("the download"))
            incoming.commit()

    def _first(
        self,
        job: Job,
        endpoints: Sequence[Endpoint],
        reference: Reference,
        auth: Auth,
        step: Callable[[Repository], _T],
    ) -> _T:
        """What the first endpoint gives that can do the step."""
        failures: list[CrispError] = []
        for endpoint in endpoints:
            transport = Transport(
                self._certificates.of(endpoint.registry), insecure=endpoint.insecure, timeout=self._timeout
            )
            try:
                with transport:
                    job.over(transport)
                    home = transport.open(endpoint.host, self._schemes)
                    result = step(Repository(transport, home, endpoint, auth, self._tokens, self._token_servers))
            except (Cancelled, InvalidInput):
                raise
            except CrispError as error:
                failures.append(error)
            else:
                self._remember(reference.name, endpoint)
                return result
        raise _together(failures)

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
    return type(own)(f"{own.message} ({text})", hint=own.hint)
