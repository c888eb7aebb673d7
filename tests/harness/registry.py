"""A real Registry v2 (Debian's docker-registry) on a loopback port of its own, and a small pusher."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from deploy.demo_image import INDEX, Image, digest
from kernel.contracts.oci import Signature
from tests.harness import host
from tests.harness.signing import OCI_MANIFEST, attachment
from tests.harness.token_server import TokenServer


class Registry:
    """A registry as a child process.

    With a user and a password it refuses every other client, with TLS it is HTTPS, with `tokens` that user gets a
    bearer token at a server of its own.
    """

    def __init__(
        self, folder: Path, *, login: tuple[str, str] | None = None, tls: bool = False, tokens: bool = False
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.login = login
        self.tls = tls
        self.tokens: TokenServer | None = None
        self._wants_tokens = tokens
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the registry and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        http: dict[str, object] = {"addr": self.address, "secret": "x"}
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}, "delete": {"enabled": True}},
            "http": http,
        }
        if self._wants_tokens:
            assert self.login, "whom to give tokens to"
            self.tokens = TokenServer(self.folder, dict([self.login]))
            config["auth"] = self.tokens.auth
        elif self.login:
            line = host.run("htpasswd", "-Bbn", *self.login).strip()
            (self.folder / "htpasswd").write_text(line + "\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self.folder / "htpasswd")}}
        if self.tls:
            host.run(
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(self.key), "-out", str(self.certificate),
            )  # fmt: skip
            http["tls"] = {"certificate": str(self.certificate), "key": str(self.key)}
        # JSON is YAML.
        (self.folder / "config.yml").write_text(json.dumps(config))
        program = shutil.which("docker-registry")
        assert program, "docker-registry is not installed: deploy/test installs it"
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "serve", str(self.folder / "config.yml")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        host.until(f"the registry on {self.address} answers", self._answers)

    def stop(self) -> None:
        """End the registry."""
        if self._process:
            self._process.kill()
            self._process.wait(10)
        if self.tokens:
            self.tokens.close()

    @property
    def key(self) -> Path:
        return self.folder / "tls.key"

    @property
    def certificate(self) -> Path:
        return self.folder / "tls.crt"

    def push(self, image: Image, repository: str, tag: str) -> str:
        """Store an image under a tag; return the reference by digest."""
        for blob in image.blobs.values():
            self._push_blob(repository, blob)
        self._request("PUT", f"/v2/{repository}/manifests/{tag}", image.manifest, image.media_type)
        return f"{self.address}/{repository}@{image.digest}"

    def push_index(self, images: dict[str, Image], repository: str, tag: str) -> str:
        """Store an index of images by architecture (`arm64`, or `arm/v7`); return the reference by digest."""
        entries = []
        for name, image in images.items():
            self.push(image, repository, image.digest)
            architecture, _, variant = name.partition("/")
            platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
            entries.append(
                {
                    "mediaType": image.media_type,
                    "digest": image.digest,
                    "size": len(image.manifest),
                    "platform": platform,
                }
            )
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
        self._request("PUT", f"/v2/{repository}/manifests/{tag}", index, INDEX)
        return f"{self.address}/{repository}@{digest(index)}"

    def attach(self, repository: str, of: str, *signatures: Signature) -> None:
        """Store cosign's signatures of a digest beside it."""
        manifest, blobs = attachment(*signatures)
        for data in blobs.values():
            self._push_blob(repository, data)
        self._request("PUT", f"/v2/{repository}/manifests/{of.replace(':', '-')}.sig", manifest, OCI_MANIFEST)

    def blob_file(self, of: str) -> Path:
        """Return the file in which the registry keeps a blob, for tests that damage it."""
        hexed = of.removeprefix("sha256:")
        return self.folder / "data/docker/registry/v2/blobs/sha256" / hexed[:2] / hexed / "data"

    def _push_blob(self, repository: str, blob: bytes) -> None:
        where = self._request("POST", f"/v2/{repository}/blobs/uploads/")["Location"]
        glue = "&" if "?" in where else "?"
        self._request("PUT", f"{where}{glue}digest={digest(blob)}", blob, "application/octet-stream")

    def _request(self, method: str, target: str, data: bytes | None = None, kind: str = "") -> dict[str, str]:
        scheme = "https" if self.tls else "http"
        url = target if "://" in target else f"{scheme}://{self.address}{target}"
        request = urllib.request.Request(url, data=data, method=method)
        if kind:
            request.add_header("Content-Type", kind)
        if self.tokens and self.login:
            repository = target.partition("/v2/")[2].partition("/blobs/")[0].partition("/manifests/")[0]
            token = self.tokens.token(self.login[0], f"repository:{repository}:pull,push" if repository else "")
            request.add_header("Authorization", f"Bearer {token}")
        elif self.login:
            request.add_header("Authorization", "Basic " + base64.b64encode(":".join(self.login).encode()).decode())
        context = ssl.create_default_context(cafile=str(self.certificate)) if self.tls else None
        with urllib.request.urlopen(request, timeout=30, context=context) as reply:
            return dict(reply.headers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            self._request("GET", "/v2/")
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a loopback port on which no process listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
