"""The registry protocol: manifests and blobs of one endpoint, with whatever credentials it wants to see.

Runs in a thread of the worker's pool. Distribution specification v1.1, and the token specification of the
distribution project. Credentials are sent once they are asked for, and only where `address` lets them go; tokens
are kept for minutes, by endpoint, repository and credentials. No error or log line has a byte of a credential,
or of what the registry said beyond the error codes of the specification.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import NoReturn

import msgspec

from kernel.contracts.oci import Auth, Descriptor
from kernel.errors import (
    Corrupt,
    CrispError,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from kernel.formats import strict_json
from kernel.ids import Digest
from services.image.documents import manifest
from services.image.registry import address, challenge
from services.image.registry.address import Origin, Url
from services.image.registry.challenge import Challenge, Token
from services.image.registry.registries import Endpoint
from services.image.registry.transport import Passing, Response, Transport, status_text

_TOKEN_LIMIT = 1 << 20
_ERROR_LIMIT = 64 << 10
_CHUNK = 256 << 10
_CACHED = 256
_INTERVAL = 0.5
"""Seconds after which bytes are given on though the piece is not full."""
_LEAST = 4096
"""The least bytes of a blob within the progress timeout: fewer are a stall."""
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII)
_CODES = frozenset({
    "BLOB_UNKNOWN", "DENIED", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "TAG_INVALID",
    "TOOMANYREQUESTS", "UNAUTHORIZED", "UNAVAILABLE", "UNKNOWN", "UNSUPPORTED",
})  # fmt: skip


class _Error(msgspec.Struct, frozen=True):
    code: str = ""


class _Errors(msgspec.Struct, frozen=True):
    errors: list[_Error] = []


class Tokens:
    """Bearer tokens of all jobs, in memory only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[tuple[Origin, str, Auth], tuple[float, str]] = {}

    def get(self, key: tuple[Origin, str, Auth]) -> str:
        """The token under `key`; empty where there is none that still holds."""
        with self._lock:
            expires, value = self._tokens.get(key, (0.0, ""))
            return value if expires > self._clock() else ""

    def put(self, key: tuple[Origin, str, Auth], token: Token) -> None:
        """Keep a token for its lifetime."""
        with self._lock:
            now = self._clock()
            self._tokens = {known: kept for known, kept in self._tokens.items() if kept[0] > now}
            if len(self._tokens) >= _CACHED:
                del self._tokens[min(self._tokens, key=lambda known: self._tokens[known][0])]
            self._tokens[key] = (now + token.lifetime - 5, token.value)

    def drop(self, key: tuple[Origin, str, Auth]) -> None:
        """Forget a token that was refused."""
        with self._lock:
            self._tokens.pop(key, None)


class Body:
    """A blob on its way: exactly its size, not yet hashed."""

    def __init__(self, response: Response, blob: Descriptor, what: str, offset: int, timeout: float) -> None:
        self._response = response
        self._size = blob.size
        self._what = f"registry {response.host}: {what}"
        self._timeout = timeout
        self.offset = offset
        """Where in the blob its first byte belongs."""
        self.etag = response.header("ETag")

    def pieces(self) -> Iterator[memoryview]:
        """The bytes as they arrive. Each piece is valid until the next; what came before a break is given."""
        response, left = self._response, self._size - self.offset
        try:
            if response.length is not None and response.length != left:
                raise Corrupt(f"{self._what}: sends {response.length} bytes where the manifest says {left}")
            buffer, filled = memoryview(bytearray(min(_CHUNK, left + 1))), 0
            window, since = 0, time.monotonic()
            given = since
            while left:
                try:
                    count = response.readinto(buffer[filled : min(filled + left, len(buffer))])
                    if not count:
                        raise Unavailable(
                            f"{self._what}: broke off after {self._size - left} of {self._size} bytes"
                        ) from Passing()
                    now = time.monotonic()
                    window += count
                    if now - since > self._timeout:
                        if window < min(_LEAST, left):
                            raise Unavailable(
                                f"{self._what}: stalled: {window} bytes within the progress timeout"
                            ) from Passing()
                        window, since = 0, now
                except Unavailable:
                    if filled:
                        yield buffer[:filled]
                    raise
                filled += count
                left -= count
                if filled == len(buffer) or not left or now - given > _INTERVAL:
                    yield buffer[:filled]
                    filled, given = 0, now
            if response.length is None and response.readinto(buffer[:1]):
                raise Corrupt(f"{self._what}: sends more than the {self._size} bytes of the manifest")
        finally:
            if left:
                response.abandon()
            else:
                response.close()


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
        """`home`: what `transport` has been opened to. `token_servers`: those of other domains that may be trusted."""
        self._transport = transport
        self._home = home
        self._endpoint = endpoint
        self._auth = auth if endpoint.credentials else Auth()
        self._tokens = tokens
        self._token_servers = token_servers
        self._authorization = ""

    @property
    def name(self) -> str:
        """Where it is, with its path."""
        return f"{self._home}/{self._endpoint.path}"

    def says(self, what: str) -> str:
        """`what` with the registry that it came from, as errors name it."""
        return f"registry {self._home}: {what}"

    def manifest(self, target: str, what: str) -> tuple[bytes, str, Digest]:
        """The manifest that a tag or digest names: its bytes, its content type and its digest, verified."""
        response = self._get(f"manifests/{target}", ", ".join(manifest.ACCEPT), what)
        content_type, claimed = response.header("Content-Type"), response.header("Docker-Content-Digest").strip()
        body = response.read(manifest.SIZE_LIMIT)
        found = Digest(f"sha256:{hashlib.sha256(body).hexdigest()}")
        for expected in (target, claimed):
            if expected.startswith("sha256:") and expected != found:
                raise Corrupt(f"registry {response.host}: {what}: asked for or said to be {expected[:80]!a}, "
                              f"the manifest that came is {found}")  # fmt: skip
        return body, content_type, found

    def small_blob(self, blob: Descriptor, limit: int, what: str) -> bytes:
        """A blob in memory, verified; `limit` bounds its size."""
        if blob.size > limit:
            raise FailedPrecondition(f"registry {self._home}: {what}: {blob.size} bytes, more than {limit}")
        body = b"".join(bytes(chunk) for chunk in self.blob(blob, what).pieces())
        manifest.verify(body, blob, f"registry {self._home}: {what}")
        return body

    def blob(self, blob: Descriptor, what: str, offset: int = 0, etag: str = "") -> Body:
        """A blob's bytes from `offset` on, or from the first where the registry will not, or cannot be believed.

        `etag`: what it called the bytes before that offset, where it is known.
        """
        response = None
        if offset:
            response = self._get(f"blobs/{blob.digest}", "*/*", what, f"bytes={offset}-")
            if (response.status == 206 and not _continues(response, blob.size, offset, etag)) or response.status == 416:
                response.close()
                response = None
        if response is None:
            response = self._get(f"blobs/{blob.digest}", "*/*", what)
        return Body(response, blob, what, offset if response.status == 206 else 0, self._transport.timeout)

    def _get(self, path: str, accept: str, what: str, byte_range: str = "") -> Response:
        url = Url(self._home, f"/v2/{self._endpoint.path}/{path}")
        headers = {"Accept": accept, **({"Range": byte_range} if byte_range else {})}
        if not self._authorization:
            self._authorization = self._known()
        response = self._transport.get(url, headers, authorization=self._authorization)
        if response.status == 401:
            asked = challenge.parse(response.headers("WWW-Authenticate"))
            response.close()
            self._authorization = self._answer(asked, what)
            response = self._transport.get(url, headers, authorization=self._authorization)
        if response.status != 200 and not (byte_range and response.status in (206, 416)):
            self._refused(response, what)
        return response

    @property
    def _scope(self) -> str:
        return f"repository:{self._endpoint.path}:pull"

    def _known(self) -> str:
        """What to send unasked: a token that was good a moment ago."""
        token = self._tokens.get((self._home, self._scope, self._auth))
        return f"Bearer {token}" if token else ""

    def _answer(self, asked: tuple[Challenge, ...], what: str) -> str:
        """The Authorization that a challenge wants."""
        self._tokens.drop((self._home, self._scope, self._auth))
        for found in asked:
            if found.scheme == "bearer":
                return f"Bearer {self._auth.registry_token or self._token(found, what)}"
        if any(found.scheme == "basic" for found in asked):
            if not (self._auth.username or self._auth.password):
                raise Unauthenticated(f"registry {self._home}: {what}: it wants a user name and a password")
            return _basic(self._auth)
        raise Unauthenticated(f"registry {self._home}: {what}: it wants a kind of credentials that crisp has not")

    def _token(self, asked: Challenge, what: str) -> str:
        key = (self._home, self._scope, self._auth)
        verified = self._home.scheme == "https" and not self._endpoint.insecure
        try:
            url = address.token_server(self._home, asked.parameters.get("realm", ""), verified=verified)
        except address.BadAddress as error:
            raise Unavailable(f"registry {self._home}: {what}: its token server cannot be asked: {error}") from error
        secret = bool(self._auth.username or self._auth.password or self._auth.identity_token)
        trusted = str(url.origin) in self._token_servers or address.same_owner(self._home.host, url.origin.host)
        if secret and not trusted:
            raise Unauthenticated(
                f"registry {self._home}: {what}: its token server {url.origin} is of another domain: it is not given "
                "the credentials",
                hint="image.token_servers of the configuration lists those that may have them",
            )
        query = {"service": asked.parameters.get("service", ""), "scope": self._scope}
        with_query = address.Url(url.origin, _with_query(url.target, {k: v for k, v in query.items() if v}))
        try:
            if self._auth.identity_token:
                form = {**query, "grant_type": "refresh_token", "client_id": "crisp"}
                body = urllib.parse.urlencode({**form, "refresh_token": self._auth.identity_token}).encode()
                response = self._transport.ask(url, form=body)
            else:
                response = self._transport.ask(with_query, authorization=_basic(self._auth) if secret else "")
            if response.status != 200:
                self._refused(response, f"{what}: token server")
            token = challenge.token(response.read(_TOKEN_LIMIT))
        except challenge.BadToken as error:
            raise Unavailable(f"registry {url.origin}: {what}: token server: {error}") from error
        self._tokens.put(key, token)
        return token.value

    def _refused(self, response: Response, what: str) -> NoReturn:
        """Raise what a status means; only the specification's own error codes are repeated."""
        reason = status_text(response.status)
        code = _code(response)
        response.close()
        text = f"registry {response.host}: {what}: {reason}{f' ({code})' if code else ''}"
        kind: type[CrispError] = Unavailable
        if response.status == 401:
            kind = Unauthenticated
            text += ": the credentials were refused" if self._auth != Auth() else ": it wants credentials"
        elif response.status == 403:
            kind = PermissionDenied
        elif response.status == 404:
            kind = NotFound
        elif response.status == 429:
            kind = ResourceExhausted
            text += ": too many requests"
        raise kind(text) from (Passing() if response.status in _BUSY else None)


def _continues(response: Response, size: int, offset: int, etag: str) -> bool:
    """Whether a partial answer is what was asked for: the rest of the same blob."""
    found = _CONTENT_RANGE.fullmatch(response.header("Content-Range").strip())
    if found is None or (int(found[1]), int(found[2])) != (offset, size - 1) or found[3] not in ("*", str(size)):
        return False
    new = response.header("ETag")
    return response.length in (None, size - offset) and not (etag and new and etag != new)


def _basic(auth: Auth) -> str:
    return f"Basic {base64.b64encode(f'{auth.username}:{auth.password}'.encode()).decode()}"


def _with_query(target: str, query: dict[str, str]) -> str:
    return f"{target}{'&' if '?' in target else '?'}{urllib.parse.urlencode(query)}"


def _code(response: Response) -> str:
    """The first error code of a refusal that the specification knows."""
    try:
        found = msgspec.convert(strict_json.loads(response.read(_ERROR_LIMIT)), _Errors)
    except (Unavailable, strict_json.NotStrictJson, msgspec.ValidationError):
        return ""  # a proxy's page, say: the status has to do
    return next((error.code for error in found.errors if error.code in _CODES), "")
