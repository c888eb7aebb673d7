"""TLS: the CAs and client certificates of certs.d, and what is refused."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import ssl
import warnings
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from deploy.demo_image import Image
from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition, Unavailable
from tests.integration.image.conftest import Worker
from tests.integration.image.lying import Lying, guarded, redirect, reply

SECRET = "hunter2-do-not-show"


async def test_tls_with_a_ca_of_our_own(worker: Worker, registries, small: Image) -> None:
    registry = registries(tls=True)
    registry.push(small, "app", "latest")
    reference = f"{registry.address}/app"
    worker.registries(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = false\n')
    with pytest.raises(Unavailable, match="certificate is not trusted"):
        await worker.resolve(reference)
    folder = Path(worker.config.image.certs_dir) / registry.address
    folder.mkdir(parents=True)
    shutil.copy(registry.certificate, folder / "ca.crt")
    await worker.pull(reference, small)
    (folder / "ca.crt").write_text("no certificate")
    with pytest.raises(FailedPrecondition, match=r"ca\.crt"):
        await worker.resolve(reference)


async def test_insecure_does_not_verify(worker: Worker, registries, small: Image) -> None:
    registry = registries(tls=True)
    registry.push(small, "app", "latest")
    worker.registries(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
    await worker.pull(f"{registry.address}/app", small)


class Authority:
    """A CA of the test's own, which signs what it is asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        folder.mkdir()
        certificate = self._builder(self._name, self._key, 1).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = folder / "ca.crt"
        self.file.write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def sign(self, name: str, address: str = "127.0.0.1", days: int = 1) -> tuple[Path, Path]:
        """A certificate for an IP address that ends in so many days, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(subject, key, days).add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        files = (self.folder / f"{name}.cert", self.folder / f"{name}.key")
        files[0].write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def server(files: tuple[Path, Path], clients: Path | None = None) -> ssl.SSLContext:
    """A registry's TLS; with `clients` it wants a certificate that this CA signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def trust(worker: Worker, registry: Lying, *files: Path) -> None:
    """Verify the registry, and put files into its folder of certs.d."""
    worker.registries(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = false\n')
    folder = Path(worker.config.image.certs_dir) / registry.address
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder)


@pytest.mark.parametrize(
    ("how", "reason"),
    [({"address": "127.0.0.2"}, "IP address mismatch"), ({"days": -1}, "expired")],
)
async def test_a_certificate_that_does_not_hold(
    worker: Worker, liars, small: Image, authority: Authority, how: dict, reason: str
) -> None:
    registry: Lying = liars(context=server(authority.sign("server", **how)))
    registry.serve(small)
    trust(worker, registry, authority.file)
    with pytest.raises(Unavailable, match=reason) as caught:
        await worker.resolve(f"{registry.address}/app")
    assert registry.address in str(caught.value)


async def test_old_tls_is_not_spoken(worker: Worker, liars, small: Image, authority: Authority) -> None:
    context = server(authority.sign("server"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    registry: Lying = liars(context=context)
    registry.serve(small)
    trust(worker, registry, authority.file)
    with pytest.raises(Unavailable, match="TLS failed") as caught:
        await worker.resolve(f"{registry.address}/app")
    assert registry.address in str(caught.value)
    assert not registry.seen


async def test_a_chain_of_thousands_of_certificates(
    worker: Worker, liars, small: Image, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.sign("server")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificate.read_bytes() + authority.file.read_bytes() * 10_000)
    registry: Lying = liars(context=server((chain, key)))
    registry.serve(small)
    trust(worker, registry, authority.file)
    with pytest.raises(Unavailable, match="TLS failed") as caught:
        await worker.resolve(f"{registry.address}/app")
    assert registry.address in str(caught.value)


async def test_a_client_certificate(worker: Worker, liars, small: Image, authority: Authority) -> None:
    registry: Lying = liars(context=server(authority.sign("server"), authority.file))
    registry.serve(small)
    trust(worker, registry, authority.file)
    with pytest.raises(Unavailable, match=registry.address):
        await worker.resolve(f"{registry.address}/app")
    trust(worker, registry, *authority.sign("client"))
    await worker.pull(f"{registry.address}/app", small)


async def test_a_verified_registry_is_not_asked_over_http(worker: Worker, liar: Lying) -> None:
    trust(worker, liar)
    with pytest.raises(Unavailable, match="TLS failed"):
        await worker.resolve(f"{liar.address}/app", Auth(username="ann", password=SECRET))
    assert not liar.seen


async def test_https_does_not_lead_to_http(worker: Worker, liar: Lying, liars, authority: Authority) -> None:
    registry: Lying = liars(context=server(authority.sign("server")))
    trust(worker, registry, authority.file)
    registry.routes["/v2/app/manifests/latest"] = redirect(f"http://{liar.address}/v2/app/manifests/latest")
    with pytest.raises(Unavailable, match="from https to http"):
        await worker.resolve(f"{registry.address}/app")
    challenge = f'Bearer realm="http://{liar.address}/token"'
    registry.routes["/v2/app/manifests/latest"] = guarded(reply(200), "x", challenge)
    with pytest.raises(Unavailable, match="is not https"):
        await worker.resolve(f"{registry.address}/app", Auth(username="ann", password=SECRET))
    assert not liar.seen
