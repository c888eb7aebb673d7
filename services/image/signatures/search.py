"""All signatures of an image, from the places that registries.d names. Runs in a thread of the worker's pool."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kernel.config.sections import Config
from kernel.contracts.oci import Signature
from kernel.errors import NotFound
from kernel.formats.reference import Reference
from kernel.ids import Digest
from services.image.credentials import RequestCredentials
from services.image.endpoints import Endpoints
from services.image.jobs import Job
from services.image.registry import address
from services.image.signatures import cosign, lookaside
from services.image.signatures.collected import Collected
from services.image.signatures.registries_d import RegistriesD


class SignatureSearch:
    """Finds the signatures of images."""

    def __init__(self, config: Config, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._places = RegistriesD(Path(config.image.registries_d))
        self._default_store = next(map(Path, config.image.lookaside_dirs), None)

    def find(
        self, job: Job, image: Reference, digests: Sequence[Digest], credentials: RequestCredentials
    ) -> tuple[Signature, ...]:
        """Return the signatures of these digests. They are searched under the image's own name, whichever mirror
        serves it."""
        places, collected = self._places.places(image), Collected(image)
        for digest in digests:
            if places.attachments:
                self._search_registry(job, image, digest, credentials, collected)
            if places.lookaside:
                self._search_store(job, places.lookaside, image, digest, collected)
            elif self._default_store is not None:
                store = lookaside.in_folder(self._default_store, configured=False)
                lookaside.collect(store, image, digest, collected)
        return collected.all

    def _search_registry(
        self, job: Job, image: Reference, digest: Digest, credentials: RequestCredentials, collected: Collected
    ) -> None:
        tagged = Reference(image.registry, image.path, cosign.tag_of(digest), None)
        endpoints = self._endpoints.of(tagged)
        with suppress(NotFound):  # it is not signed
            self._endpoints.first(
                job,
                endpoints,
                tagged,
                credentials,
                lambda repository: cosign.collect(repository, digest, collected),
                remember=False,
            )

    def _search_store(self, job: Job, store: str, image: Reference, digest: Digest, collected: Collected) -> None:
        if store.startswith("file://"):
            folder = Path(store.removeprefix("file://"))
            return lookaside.collect(lookaside.in_folder(folder), image, digest, collected)
        return self._endpoints.at_url(
            job,
            address.parse(store),
            lambda transport, base: lookaside.collect(lookaside.on_server(transport, base), image, digest, collected),
        )
