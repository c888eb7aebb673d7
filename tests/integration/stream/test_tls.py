"""TLS: a certificate that is read again, and an authority of clients'."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from kernel.errors import FailedPrecondition
from tests.harness import host
from tests.harness.streams import Command, Refused


def authority(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate and key that sign others."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    host.run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert),
    )  # fmt: skip
    return cert, key


def trusting(cert: Path, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(cert))
    if own:
        context.load_cert_chain(*own)
    return context


async def run(stream, tls: ssl.SSLContext) -> bytes:
    """What a command gives back over TLS."""
    client = asyncio.create_task(asyncio.to_thread(Command, await stream.url(stdin=True), stdin=True, tls=tls))
    serving = asyncio.create_task(stream.run("cat"))
    try:
        command = await client
    except BaseException:
        serving.cancel()
        raise
    with command:
        started = await serving
        await asyncio.to_thread(command.write, bytes(range(256)) * 4000, fin=True)
        assert await asyncio.to_thread(command.exit_code) == 0
        started.wait()
        return command.output()


async def test_a_certificate_is_read_again(make, tmp_path: Path) -> None:
    cert, key = authority(tmp_path, "first")
    stream = make(tls_cert=str(cert), tls_key=str(key))
    assert stream.service._server.base_url.startswith("https://127.0.0.1:")
    old = trusting(cert)
    assert await run(stream, old) == bytes(range(256)) * 4000
    fresh, fresh_key = authority(tmp_path, "second")
    new = trusting(fresh)
    fresh_key.rename(key)
    fresh.rename(cert)
    assert await run(stream, new) == bytes(range(256)) * 4000
    with pytest.raises(ssl.SSLError):
        await run(stream, old)
    cert.write_text("nothing")
    assert await run(stream, new) == bytes(range(256)) * 4000


async def test_only_clients_of_the_authority(make, tmp_path: Path) -> None:
    server, client, stranger = (authority(tmp_path, name) for name in ("server", "client", "stranger"))
    stream = make(tls_cert=str(server[0]), tls_key=str(server[1]), tls_ca=str(client[0]))
    assert await run(stream, trusting(server[0], client))
    for own in (None, stranger):
        with pytest.raises((ssl.SSLError, ConnectionError, Refused)):
            await run(stream, trusting(server[0], own))


async def test_a_certificate_that_is_not_there_is_named(make, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"nowhere.pem.*stream\.tls_cert"):
        make(tls_cert=str(tmp_path / "nowhere.pem"))
