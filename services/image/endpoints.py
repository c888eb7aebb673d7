"""The endpoints of a reference, tried in their order, each with the credentials and the connections that it needs.

Runs in threads of the worker's pool, one `Job` each. Mirrors come first and the registry itself last, so its error is
the one that is raised, with the mirrors' errors beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from kernel.config.registries_reader import RegistriesReader
from kernel.config.sections import Config
from kernel.contracts.oci import Auth
from kernel.errors import Cancelled, CrispError, FailedPrecondition, InvalidInput, Unauthenticated
from kernel.formats.reference import Reference
from kernel.formats.registries_conf import AUTH_FILE
from services.image.credentials import NodeCredentials, RequestCredentials
from services.image.documents.auth_file import Helper
from services.image.jobs import Job
from services.image.registry import address, proxies
from services.image.registry.certificates import Certificates
from services.image.registry.distribution import Repository
from services.image.registry.failures import is_transient
from services.image.registry.registries import Endpoint, plan
from services.image.registry.tokens import Tokens
from services.image.registry.transport import Transport

_T = TypeVar("_T")
_REMEMBERED = 512
"""The most repositories of which it is remembered which endpoint has served them."""


class Endpoints:
    """State that all pulls share: rules, certificates, credentials, tokens, and which endpoint has served what."""

    def __init__(self, config: Config) -> None:
        section = config.image
        self._timeout = section.progress_timeout
        self._registries = RegistriesReader(Path(section.registries_conf))
        self._certificates = Certificates(Path(section.certs_dir))
        file, folder = section.global_auth_file, section.namespaced_auth_dir
        self._credentials = NodeCredentials(Path(file) if file else None, Path(folder) if folder else None)
        self._runs_helpers = bool(section.credential_helper_dir)
        self._proxies = proxies.parse(section.http_proxy, section.https_proxy, section.no_proxy)
        self._tokens = Tokens()
        self._token_servers = frozenset(section.token_servers)
        self._schemes: dict[str, str] = {}
        self._served: dict[str, Endpoint] = {}

    def of(self, reference: Reference) -> tuple[Endpoint, ...]:
        """Return the endpoints of a reference in the order of registries.conf."""
        return plan(reference, self._registries.conf().registries)

    def of_blobs(self, reference: Reference) -> tuple[Endpoint, ...]:
        """Return the endpoints for a reference's blobs: the one that has served its manifest comes first."""
        endpoints = self.of(reference)
        served = self._served.get(reference.name)
        if served not in endpoints:
            return endpoints
        return (served, *(other for other in endpoints if other != served))

    def helpers(self, reference: Reference, credentials: RequestCredentials) -> dict[str, tuple[str, ...]]:
        """Return the names of the credential helpers that a pull may need, by server."""
        found: dict[str, tuple[str, ...]] = {}
        for endpoint in self.of(reference):
            known = self._known_credentials(endpoint, reference, credentials)
            if not isinstance(known, Auth) and known:
                found[known[0].server] = tuple(helper.name for helper in known)
        return found

    def first(
        self,
        job: Job,
        endpoints: Sequence[Endpoint],
        reference: Reference,
        credentials: RequestCredentials,
        step: Callable[[Repository], _T],
        *,
        remember: bool = True,
    ) -> _T:
        """Return the result of `step` at the first endpoint at which it succeeds.

        `remember`: whether this endpoint comes first for the blobs of the reference. If all fail, the last one's error
        is raised with those of the others in its text.
        """
        errors: list[CrispError] = []
        for endpoint in endpoints:
            transport = Transport(
                self._certificates.of(endpoint.registry),
                insecure=endpoint.insecure,
                timeout=self._timeout,
                proxies=self._proxies,
            )
            try:
                authenticated, auth = self._authenticated(endpoint, reference, credentials)
                with transport:
                    job.use(transport)
                    home = transport.open(endpoint.host, self._schemes)
                    result = step(Repository(transport, home, authenticated, auth, self._tokens, self._token_servers))
            except (Cancelled, InvalidInput):
                raise
            except CrispError as error:
                errors.append(error)
            else:
                if remember:
                    self._remember(reference.name, endpoint)
                return result
        raise _combined(errors)

    def at_url(self, job: Job, url: address.Url, step: Callable[[Transport, address.Url], _T]) -> _T:
        """Return the result of `step` with connections to the host of a URL, which is no registry."""
        host, scheme = str(url.origin), url.origin.scheme
        tls = self._certificates.of(host)
        with Transport(tls, insecure=scheme == "http", timeout=self._timeout, proxies=self._proxies) as transport:
            job.use(transport)
            return step(transport, address.Url(transport.open(host, {host: scheme}), url.target))

    def _authenticated(
        self, endpoint: Endpoint, reference: Reference, credentials: RequestCredentials
    ) -> tuple[Endpoint, Auth]:
        """Return an endpoint and the credentials for it.

        At the reference's own registry the request's credentials come first. Elsewhere the node's for that registry do;
        if there are none, the request's are used if `Endpoint.credentials` allows it.
        """
        found = self._known_credentials(endpoint, reference, credentials)
        if not isinstance(found, Auth):
            helped = credentials.helped
            auth = next((helped[helper.server] for helper in found if helper.server in helped), Auth())
            if auth == Auth() and (certain := next((helper for helper in found if helper.certain), None)):
                raise self._unhelped(endpoint, certain)
            found = auth
        return (endpoint, credentials.auth) if found == Auth() else (replace(endpoint, credentials=True), found)

    def _known_credentials(
        self, endpoint: Endpoint, reference: Reference, credentials: RequestCredentials
    ) -> Auth | tuple[Helper, ...]:
        """Return the node's credentials for an endpoint, or the helpers that may have them.

        Empty if the request's own credentials are for it.
        """
        if credentials.auth != Auth() and endpoint.registry == reference.registry.lower():
            return ()
        helpers = [name for name in self._registries.conf().helpers if name != AUTH_FILE]
        return self._credentials.find(
            endpoint.registry, endpoint.path, namespace=credentials.namespace, name=reference.name, helpers=helpers
        )

    def _unhelped(self, endpoint: Endpoint, helper: Helper) -> CrispError:
        what = f"registry {endpoint.registry}: credential helper {helper.name}, which an auth file names for it,"
        if not self._runs_helpers:
            return FailedPrecondition(
                f"{what} may not be run",
                hint="image.credential_helper_dir is the folder of helpers; or put the credentials into auths",
            )
        return Unauthenticated(f"{what} has no credentials")

    def _remember(self, name: str, endpoint: Endpoint) -> None:
        if len(self._served) >= _REMEMBERED:
            self._served.pop(next(iter(self._served)))
        self._served[name] = endpoint


def _combined(errors: Sequence[CrispError]) -> CrispError:
    """Return one error for several endpoints: the registry's own, which came last, with the mirrors' in its text."""
    *mirrors, own = errors
    if not mirrors:
        return own
    text = "; ".join(f"mirror: {error.message}" for error in mirrors)
    combined = type(own)(f"{own.message} ({text})", hint=own.hint)
    combined.__cause__ = next((error.__cause__ for error in (own, *mirrors) if is_transient(error)), own)
    return combined
