#!/usr/bin/env python3
"""Make a small image from this host's busybox: an OCI image layout in one tar file, for `crisp image load`.

deploy/up runs it for its demo, and the tests import it to push the same image to a registry. It needs only the
standard library and no network, so any Python 3.11 runs it. The result depends on the busybox binary alone: the same
host gives the same digests.

    demo_image.py --output busybox.tar [--name localhost/crisp-demo:latest]
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import platform
import shutil
import subprocess  # noqa: TID251 - runs before crisp is installed
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

LAYOUT_VERSION = "1.0.0"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image as the bytes that a registry or a layout holds."""

    manifest: bytes
    config: bytes
    layers: tuple[bytes, ...]
    """The compressed layers, lowest first."""
    media_type: str = MANIFEST
    blobs: dict[str, bytes] = field(init=False)
    """Configuration and layers by digest."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "blobs", {digest(blob): blob for blob in (self.config, *self.layers)})

    @property
    def digest(self) -> str:
        """The manifest's digest, by which `name@sha256:…` names the image."""
        return digest(self.manifest)

    @property
    def id(self) -> str:
        """The configuration's digest: the image's id."""
        return digest(self.config)


def digest(data: bytes) -> str:
    """Return the digest of some bytes as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layer:
    """A tar of one layer, built entry by entry, with owner root and time 0 by default."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by tar()
        self._folders: set[str] = set()

    def folder(self, name: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Add a folder, and those above it that are not there yet."""
        if name in self._folders or name in ("", "."):
            return
        self.folder(str(Path(name).parent))
        self._folders.add(name)
        self._add(name, tarfile.DIRTYPE, mode, uid, gid)

    def file(self, name: str, data: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """Add a regular file."""
        self.folder(str(Path(name).parent))
        self._add(name, tarfile.REGTYPE, mode, uid, gid, data=data)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self.folder(str(Path(name).parent))
        self._add(name, tarfile.SYMTYPE, 0o777, 0, 0, target=target)

    def hardlink(self, name: str, target: str) -> None:
        """Add a second name of an entry that was added before."""
        self._add(name, tarfile.LNKTYPE, 0o644, 0, 0, target=target)

    def tar(self) -> bytes:
        """Return the finished, uncompressed tar."""
        self._tar.close()
        return self._buffer.getvalue()

    def _add(
        self, name: str, kind: bytes, mode: int, uid: int, gid: int, *, data: bytes = b"", target: str = ""
    ) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid, entry.size, entry.linkname = (
            kind,
            mode,
            uid,
            gid,
            len(data),
            target,
        )
        self._tar.addfile(entry, io.BytesIO(data))


def image(layers: list[bytes], config: dict[str, object] | None = None) -> Image:
    """Return an image of uncompressed layer tars, lowest first, with `config` as that part of its configuration."""
    compressed = tuple(gzip.compress(layer, mtime=0) for layer in layers)
    configuration = _json(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            "history": [{"created_by": "crisp demo_image.py"} for _ in layers],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, configuration),
            "layers": [_descriptor(LAYER, layer) for layer in compressed],
        }
    )
    return Image(manifest=manifest, config=configuration, layers=compressed)


def archive(built: Image, names: list[str]) -> bytes:
    """Return the image as a tar of an OCI image layout; each name becomes a manifest entry of its index."""
    entry = {**_descriptor(built.media_type, built.manifest)}
    index = _json(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                entry | {"annotations": {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}}
                for name in names
            ]
            or [entry],
        }
    )
    layout = Layer()
    layout.file("oci-layout", _json({"imageLayoutVersion": LAYOUT_VERSION}))
    layout.file("index.json", index)
    for blob in (built.manifest, built.config, *built.layers):
        layout.file(f"blobs/sha256/{digest(blob).removeprefix('sha256:')}", blob)
    return layout.tar()


def busybox_layer() -> Layer:
    """Return a root file system of this host's busybox: the binary, its libraries, a link for each applet."""
    binary = shutil.which("busybox", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if binary is None:
        raise SystemExit("demo_image.py: there is no busybox on this host; install the package busybox")
    layer = Layer()
    layer.folder("tmp", mode=0o1777)
    for name in ("proc", "sys", "dev", "root", "etc", "usr/bin", "var"):
        layer.folder(name, mode=0o700 if name == "root" else 0o755)
    layer.file("etc/passwd", PASSWD.encode())
    layer.file("etc/group", GROUP.encode())
    layer.file("bin/busybox", Path(binary).read_bytes(), mode=0o755)
    for library in _libraries(binary):
        layer.file(library.lstrip("/"), Path(library).read_bytes(), mode=0o755)
    applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in sorted(set(applets) - {"busybox"}):
        layer.symlink(f"bin/{applet}", "busybox")
    return layer


def busybox_image(config: dict[str, object] | None = None) -> Image:
    """Return the demo's image: busybox, whose command is a shell."""
    return image([busybox_layer().tar()], config or {"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"]})


def _libraries(binary: str) -> list[str]:
    """Return absolute paths of the shared libraries and the loader of a binary; none if it is static."""
    said = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False)
    if said.returncode:
        return []
    words = (word for line in said.stdout.splitlines() for word in line.split())
    return sorted({word for word in words if word.startswith("/")})


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def main() -> int:
    """Write the archive and print the image's id."""
    parser = argparse.ArgumentParser(description="Make an image from this host's busybox.")
    parser.add_argument("--output", type=Path, required=True, help="the tar file to write")
    parser.add_argument("--name", default="localhost/crisp-demo:latest", help="the image's name")
    arguments = parser.parse_args()
    built = busybox_image()
    arguments.output.write_bytes(archive(built, [arguments.name]))
    print(built.id)
    return 0


if __name__ == "__main__":
    sys.exit(main())
