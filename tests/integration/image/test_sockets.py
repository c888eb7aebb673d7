"""Hosts that a registry names are judged when they are connected to."""

from __future__ import annotations

import socket

import pytest

from kernel.errors import Unavailable
from tests.integration.image.conftest import Worker
from tests.integration.image.lying import Lying, redirect
from tests.integration.image.test_transport import BLOB, PATH


@pytest.mark.parametrize("leads", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0"])
async def test_a_name_is_judged_by_what_it_means_when_it_is_connected_to(
    worker: Worker, liar: Lying, monkeypatch: pytest.MonkeyPatch, leads: str
) -> None:
    """A name may mean something harmless when it is looked at, and this machine's metadata service a moment later."""
    real = socket.getaddrinfo

    def rebound(host: str, port: int, **how: object) -> object:
        if host != "rebound.example":
            return real(host, port, **how)
        family = socket.AF_INET6 if ":" in leads else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (leads, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    liar.routes[PATH] = redirect("http://rebound.example/x")
    with pytest.raises(Unavailable, match="link to this machine: not followed"):
        await worker.fetch(f"{liar.address}/app", BLOB)
