"""Bearer tokens: kept by endpoint, repository and credentials, and fetched from a registry's token server.

The protocol is the distribution project's token specification (and its OAuth2 part for identity tokens). Credentials
are sent to a token server only if `address` allows it. Runs in jobs' threads; tokens are kept in memory only.
"""

from __future__ import annotations

import base64
import threading
import time
import urllib.parse
from collections.abc import Callable

from kernel.contracts.oci import Auth
from kernel.errors import Unauthenticated, Unavailable
from services.image.registry import address, challenge
from services.image.registry.address import Origin, Url
from services.image.registry.challenge import Challenge, Token
from services.image.registry.refusals import refused
from services.image.registry.transport import Transport

_CACHED = 256
_TOKEN_LIMIT = 1 << 20
_MARGIN = 5
"""Seconds before its end at which a token is no longer used."""
Key = tuple[Origin, str, Auth]
"""Endpoint, scope and credentials."""


class Tokens:
    """The tokens of all jobs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[Key, tuple[float, str]] = {}

    def get(self, key: Key) -> str:
        """Return the token under `key`; empty if there is none that is still valid."""
        with self._lock:
            expires, value = self._tokens.get(key, (0.0, ""))
            return value if expires > self._clock() else ""

    def put(self, key: Key, token: Token) -> None:
        """Keep a token for its lifetime."""
        with self._lock:
            now = self._clock()
            self._tokens = {known: kept for known, kept in self._tokens.items() if kept[0] > now}
            if len(self._tokens) >= _CACHED:
                del self._tokens[min(self._tokens, key=lambda known: self._tokens[known][0])]
            self._tokens[key] = (now + token.lifetime - _MARGIN, token.value)

    def drop(self, key: Key) -> None:
        """Forget a token that was rejected."""
        with self._lock:
            self._tokens.pop(key, None)


class TokenServer:
    """The token server that a registry names in a challenge."""

    def __init__(self, transport: Transport, home: Origin, challenge: Challenge, what: str, *, verified: bool) -> None:
        """`home`: the registry. `verified`: whether it is reached over https with a verified certificate.

        Unavailable if the server must not be used.
        """
        self._transport = transport
        self._home = home
        self._what = what
        self._service = challenge.parameters.get("service", "")
        try:
            self._url = address.token_server(home, challenge.parameters.get("realm", ""), verified=verified)
        except address.BadAddress as error:
            raise Unavailable(f"registry {home}: {what}: its token server cannot be used: {error}") from error

    def token(self, scope: str, auth: Auth, trusted: frozenset[str]) -> Token:
        """Fetch a token for `scope`. Unauthenticated if the server may not be sent the credentials.

        `trusted`: token servers of other domains that may be sent them.
        """
        url = self._url
        secret = bool(auth.username or auth.password or auth.identity_token)
        if secret and not (str(url.origin) in trusted or address.same_owner(self._home.host, url.origin.host)):
            raise Unauthenticated(
                f"registry {self._home}: {self._what}: its token server {url.origin} is of another domain: it is "
                "not sent the credentials",
                hint="image.token_servers of the configuration lists those that may have them",
            )
        query = {"service": self._service, "scope": scope}
        try:
            if auth.identity_token:
                form = {**query, "grant_type": "refresh_token", "client_id": "crisp"}
                body = urllib.parse.urlencode({**form, "refresh_token": auth.identity_token}).encode()
                response = self._transport.ask_token_server(url, form=body)
            else:
                target = _with_query(url.target, {key: value for key, value in query.items() if value})
                response = self._transport.ask_token_server(
                    Url(url.origin, target), authorization=basic(auth) if secret else ""
                )
            if response.status != 200:
                raise refused(response, f"{self._what}: token server", auth)
            return challenge.token(response.read(_TOKEN_LIMIT))
        except challenge.BadToken as error:
            raise Unavailable(f"registry {url.origin}: {self._what}: token server: {error}") from error
        except Unavailable as error:
            if url.origin == self._home:
                raise
            server = error.message.removeprefix("registry ")
            raise Unavailable(
                f"registry {self._home}: {self._what}: its token server {server}", hint=error.hint
            ) from error.__cause__


def basic(auth: Auth) -> str:
    """Return the Authorization header with a user name and a password (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{auth.username}:{auth.password}'.encode()).decode()}"


def _with_query(target: str, query: dict[str, str]) -> str:
    return f"{target}{'&' if '?' in target else '?'}{urllib.parse.urlencode(query)}"
