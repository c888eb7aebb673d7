"""The token server of a registry: signs bearer tokens for clients that may pull (distribution's token
specification)."""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

ISSUER, SERVICE = "tests", "registry-of-tests"


class TokenServer(ThreadingHTTPServer):
    """A server that gives a token for each requested scope to `users`, by name and password, or with `refresh-NAME` for
    an identity token.

    `asked` records user and scope of each request.
    """

    daemon_threads = True

    def __init__(self, folder: Path, users: dict[str, str], lifetime: int = 300) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.users = users
        self.lifetime = lifetime
        self.asked: list[tuple[str, str]] = []
        self.realm = f"http://127.0.0.1:{self.server_address[1]}/token"
        self.bundle = folder / "token.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign_certificate()
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def auth(self) -> dict[str, object]:
        """Return the section `auth` of the registry's configuration."""
        return {
            "token": {
                "realm": self.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self.bundle)
            }
        }  # fmt: skip

    def token(self, user: str, scope: str) -> str:
        """Return a signed token."""
        kind, name, actions = scope.split(":") if scope else ("", "", "")
        now = int(time.time())
        certificate = self._certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(certificate).decode()]}
        claims = {
            "iss": ISSUER, "sub": user, "aud": SERVICE, "iat": now, "nbf": now - 60, "exp": now + self.lifetime,
            "jti": secrets.token_hex(8),
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}] if scope else [],
        }  # fmt: skip
        signed = b".".join(_url64(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return b".".join((signed, _url64(r.to_bytes(32) + s.to_bytes(32)))).decode()

    def close(self) -> None:
        """End the server."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def _sign_certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TokenServer

    def do_GET(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        scope = query.get("scope", [""])[0]
        user, password = "", ""
        if said := self.headers.get("Authorization", ""):
            user, _, password = base64.b64decode(said.removeprefix("Basic ")).decode().partition(":")
        self.server.asked.append((user, scope))
        if self.server.users.get(user) != password or not user:
            self._answer(401, {"errors": [{"code": "UNAUTHORIZED"}]})
        else:
            self._answer(200, {"token": self.server.token(user, scope), "expires_in": self.server.lifetime})

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        user = form["refresh_token"][0].removeprefix("refresh-")
        scope = form["scope"][0]
        self.server.asked.append((user, scope))
        if form["grant_type"] != ["refresh_token"] or user not in self.server.users:
            self._answer(401, {"errors": [{"code": "UNAUTHORIZED"}]})
        else:
            self._answer(200, {"access_token": self.server.token(user, scope)})

    def _answer(self, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def _url64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
