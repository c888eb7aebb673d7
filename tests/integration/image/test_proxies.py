"""Registries behind a proxy that only it can reach."""

from __future__ import annotations

import base64
import gc
import select
import shutil
import socket
from collections.abc import Callable

import pytest

from deploy.demo_image import Image
from kernel.contracts.oci import Auth
from kernel.errors import Unavailable
from tests.integration.image.conftest import Worker
from tests.integration.image.lying import Handler, Lying, redirect, reply

SECRET = "hunter2-do-not-show"
LOGIN = f"Basic {base64.b64encode(f'ann:{SECRET}'.encode()).decode()}"


@pytest.fixture
def proxy(liars: Callable[..., Lying], monkeypatch: pytest.MonkeyPatch) -> Lying:
    """Leads CONNECT to where `tunnels` says."""
    one = liars()
    one.tunnels = {}  # type: ignore[attr-defined]

    def connect(handler: Handler) -> None:
        handler.server.seen.append(("CONNECT", handler.path, dict(handler.headers.items())))
        place = handler.server.tunnels.get(handler.path)  # type: ignore[attr-defined]
        if place is None:
            return reply(403, SECRET.encode())(handler)
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        with socket.create_connection(place, 10) as there:
            ways = {handler.connection: there, there: handler.connection}
            while True:
                ready, _, _ = select.select(list(ways), [], [], 10)
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return None
                    ways[one].sendall(data)
                if not ready:
                    return None

    monkeypatch.setattr(Handler, "do_CONNECT", connect, raising=False)
    return one


def absolute(proxy: Lying, liar: Lying, host: str) -> None:
    """Let the proxy answer as the registry would."""
    for path, answer in liar.routes.items():
        proxy.routes[f"http://{host}{path}"] = answer


async def test_http_through_a_proxy_with_a_password(workers, liar: Lying, proxy: Lying, small: Image) -> None:
    worker: Worker = await workers(http_proxy=f"http://ann:{SECRET}@{proxy.address}")
    worker.registries('[[registry]]\nlocation = "far.invalid"\ninsecure = true\n')
    absolute(proxy, liar, "far.invalid")
    await worker.pull("far.invalid/app", small)
    assert all(headers["Proxy-Authorization"] == LOGIN for _, _, headers in proxy.seen)
    assert all(headers["Host"] == "far.invalid" for _, _, headers in proxy.seen)
    await worker.pull(f"{liar.address}/app", small)  # this machine's own: directly
    assert all("Proxy-Authorization" not in headers for _, _, headers in liar.seen)


async def test_https_through_a_tunnel(workers, registries, proxy: Lying, small: Image) -> None:
    worker: Worker = await workers(https_proxy=f"http://ann:{SECRET}@{proxy.address}")
    registry = registries(tls=True)
    registry.push(small, "app", "latest")
    certs = worker.config.paths.root / "certs.d" / "far.invalid:5000"
    certs.mkdir(parents=True)
    shutil.copy(registry.certificate, certs / "ca.crt")
    proxy.tunnels["far.invalid:5000"] = ("127.0.0.1", registry.port)  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match=r"certificate is not trusted.*far"):  # the registry's, not the proxy's
        await worker.resolve("far.invalid:5000/app")
    worker.registries('[[registry]]\nlocation = "far.invalid:5000"\ninsecure = true\n')
    await worker.pull("far.invalid:5000/app", small)
    assert {path for _, path, _ in proxy.seen} == {"far.invalid:5000"}
    assert all(headers["Proxy-Authorization"] == LOGIN for _, _, headers in proxy.seen)
    with pytest.raises(Unavailable, match=r"far\.example: the proxy .* does not lead there") as caught:
        await worker.resolve("far.example/app", Auth(username="u", password="p"))
    assert SECRET not in str(caught.value)
    del caught
    gc.collect()  # a socket that was left open says so here


async def test_a_registry_behind_a_proxy_leads_to_no_near_host(workers, liar: Lying, proxy: Lying) -> None:
    worker: Worker = await workers(http_proxy=proxy.address)
    worker.registries('[[registry]]\nlocation = "far.invalid"\ninsecure = true\n')
    for near in ("169.254.169.254", liar.address):
        proxy.routes["http://far.invalid/v2/app/manifests/latest"] = redirect(f"http://{near}/x")
        with pytest.raises(Unavailable, match="not followed"):
            await worker.resolve("far.invalid/app")
    assert not liar.seen


async def test_a_proxy_that_is_away(workers) -> None:
    worker: Worker = await workers(https_proxy="127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"proxy 127\.0\.0\.1:1: cannot be reached"):
        await worker.resolve("far.invalid/app")
