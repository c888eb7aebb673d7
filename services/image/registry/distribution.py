"""The registry protocol: manifests and blobs of one repository at one endpoint, with the credentials that it demands.

Runs in a thread of the worker's pool. The protocol is the distribution specification v1.1 (pull). Credentials are sent
only after the registry has demanded them. No error or log line has a byte of a credential, or of what the registry sent
beyond the error codes of the specification.
"""

from __future__ import annotations

import re

from kernel.contracts.oci import Auth, Descriptor
from kernel.errors import Corrupt, FailedPrecondition, Unauthenticated
from kernel.ids import Digest
from services.image.documents import manifest, media_types, untrusted
from services.image.registry import challenge
from services.image.registry.address import Origin, Url
from services.image.registry.blob_body import BlobBody
from services.image.registry.challenge import Challenge
from services.image.registry.refusals import refused
from services.image.registry.registries import Endpoint
from services.image.registry.response import Response
from services.image.registry.tokens import Key, Tokens, TokenServer, basic
from services.image.registry.transport import Transport

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII)


class Repository:
    """One repository at one endpoint, over one job's connections."""

    def __init__(
        self,
        transport: Transport,
        home: Origin,
        endpoint: Endpoint,
        auth: Auth,
        tokens: Tokens,
        token_servers: frozenset[str],
    ) -> None:
        """`home`: the origin that `transport` is connected to. `token_servers`: trusted ones in other domains."""
        self._transport = transport
        self._home = home
        self._endpoint = endpoint
        self._auth = auth if endpoint.credentials else Auth()
        self._tokens = tokens
        self._token_servers = token_servers
        self._authorization = ""

    @property
    def name(self) -> str:
        """The repository with the host that serves it."""
        return f"{self._home}/{self._endpoint.path}"

    def source_of(self, what: str) -> str:
        """Return `what` with the registry that it came from, for errors."""
        return f"registry {self._home}: {what}"

    def manifest(self, target: str, what: str) -> tuple[bytes, str, Digest]:
        """Return the manifest of a tag or digest: its bytes, its content type and its digest, verified."""
        response = self._get(f"manifests/{target}", ", ".join(media_types.ACCEPT), what)
        content_type, claimed = response.header("Content-Type"), response.header("Docker-Content-Digest").strip()
        body = response.read(manifest.SIZE_LIMIT)
        found = untrusted.digest_of(body)
        for expected in (target, claimed):
            if expected.startswith("sha256:") and expected != found:
                raise Corrupt(
                    f"registry {response.host}: {what}: the manifest that came is {found}, "
                    f"but it was requested or announced as {expected[:80]!a}"
                )
        return body, content_type, found

    def small_blob(self, blob: Descriptor, limit: int, what: str) -> bytes:
        """Return the bytes of a blob, verified. FailedPrecondition if it is larger than `limit` bytes."""
        if blob.size > limit:
            raise FailedPrecondition(f"registry {self._home}: {what}: {blob.size} bytes, more than {limit}")
        body = b"".join(bytes(piece) for piece in self.blob(blob, what).pieces())
        untrusted.verify(body, blob, f"registry {self._home}: {what}")
        return body

    def blob(self, blob: Descriptor, what: str, offset: int = 0, etag: str = "") -> BlobBody:
        """Return a blob's bytes from `offset` on, or from the first if the registry does not serve the range rightly.

        `etag`: the registry's mark of the content before that offset; empty if unknown.
        """
        response = None
        if offset:
            response = self._get(f"blobs/{blob.digest}", "*/*", what, f"bytes={offset}-")
            if (response.status == 206 and not _continues(response, blob.size, offset, etag)) or response.status == 416:
                response.close()
                response = None
        if response is None:
            response = self._get(f"blobs/{blob.digest}", "*/*", what)
        return BlobBody(response, blob, what, offset if response.status == 206 else 0, self._transport.timeout)

    def _get(self, path: str, accept: str, what: str, byte_range: str = "") -> Response:
        url = Url(self._home, f"/v2/{self._endpoint.path}/{path}")
        headers = {"Accept": accept, **({"Range": byte_range} if byte_range else {})}
        if not self._authorization and (token := self._tokens.get(self._key)):
            self._authorization = f"Bearer {token}"
        response = self._transport.get(url, headers, authorization=self._authorization)
        if response.status == 401:
            demanded = challenge.parse(response.headers("WWW-Authenticate"))
            response.close()
            self._authorization = self._authorize(demanded, what)
            response = self._transport.get(url, headers, authorization=self._authorization)
        if response.status != 200 and not (byte_range and response.status in (206, 416)):
            raise refused(response, what, self._auth)
        return response

    @property
    def _key(self) -> Key:
        return (self._home, f"repository:{self._endpoint.path}:pull", self._auth)

    def _authorize(self, demanded: tuple[Challenge, ...], what: str) -> str:
        """Return the Authorization header that answers a challenge. Unauthenticated if there is none."""
        self._tokens.drop(self._key)
        for each in demanded:
            if each.scheme == "bearer":
                return f"Bearer {self._auth.registry_token or self._token(each, what)}"
        if any(each.scheme == "basic" for each in demanded):
            if not (self._auth.username or self._auth.password):
                raise Unauthenticated(f"registry {self._home}: {what}: it requires a user name and a password")
            return basic(self._auth)
        raise Unauthenticated(f"registry {self._home}: {what}: it requires credentials of a kind that crisp lacks")

    def _token(self, demanded: Challenge, what: str) -> str:
        verified = self._home.scheme == "https" and not self._endpoint.insecure
        server = TokenServer(self._transport, self._home, demanded, what, verified=verified)
        token = server.token(self._key[1], self._auth, self._token_servers)
        self._tokens.put(self._key, token)
        return token.value


def _continues(response: Response, size: int, offset: int, etag: str) -> bool:
    """Return whether a partial answer is the range that was requested, of the same content."""
    found = _CONTENT_RANGE.fullmatch(response.header("Content-Range").strip())
    if found is None or (int(found[1]), int(found[2])) != (offset, size - 1) or found[3] not in ("*", str(size)):
        return False
    new = response.header("ETag")
    return response.length in (None, size - offset) and not (etag and new and etag != new)
