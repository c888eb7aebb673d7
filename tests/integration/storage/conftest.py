"""A storage service on folders of its own; tars made by Python's writer and by hand; every mount is taken down."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from kernel.bus.worker import Call
from kernel.config.sections import Config, StorageSection
from kernel.contracts.oci import Descriptor, Layer
from kernel.contracts.storage import MountRequest, UnpackRequest, Usage
from kernel.host import syscalls
from kernel.ids import ContainerId, DiffId, Digest, new_id
from services.storage.methods import StorageService, create
from services.storage.roots.overlay import read_overlays

CALL = cast("Call", None)
"""No method of storage looks at its call."""
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def sha256(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


class Tar:
    """A tar that is being written."""

    def __init__(self, form: int = tarfile.PAX_FORMAT) -> None:
        self._file = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=form)  # noqa: SIM115

    def add(self, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> Tar:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime = kind, len(data), 1_700_000_000
        info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        for key, value in fields.items():
            setattr(info, key, value)
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def folder(self, name: str, **fields: object) -> Tar:
        return self.add(name, kind=tarfile.DIRTYPE, **fields)

    def link(self, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Tar:
        return self.add(name, kind=kind, linkname=target)

    def bytes(self) -> bytes:
        self._tar.close()
        return self._file.getvalue()


class Store:
    """The service under test, with short ways to use it."""

    def __init__(self, service: StorageService, config: Config) -> None:
        self.service = service
        self.config = config
        self.paths = config.paths

    def blob(self, tar: bytes, *, media_type: str = GZIP, pack: Callable[[bytes], bytes] | None = None) -> Layer:
        data = (pack or (lambda plain: gzip.compress(plain, 1)))(tar)
        digest = sha256(data)
        self.paths.blob(digest).write_bytes(data)
        descriptor = Descriptor(media_type=media_type, digest=digest, size=len(data))
        return Layer(blob=descriptor, diff_id=DiffId(sha256(tar)))

    async def unpack(self, tar: Tar | bytes) -> DiffId:
        layer = self.blob(tar if isinstance(tar, bytes) else tar.bytes())
        await self.unpack_layer(layer)
        return layer.diff_id

    async def unpack_layer(self, layer: Layer) -> Usage:
        return await self.service.unpack(UnpackRequest(layer=layer), CALL)

    def diff(self, diff_id: DiffId) -> Path:
        return self.paths.layer(diff_id) / "diff"

    async def mount(self, *layers: DiffId) -> tuple[ContainerId, Path]:
        container = ContainerId(new_id())
        await self.service.mount(MountRequest(container_id=container, layers=layers), CALL)
        return container, self.paths.rootfs(container)

    def left_over(self) -> list[str]:
        return [name for name in os.listdir(self.paths.layers) if name.startswith(".")]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    if os.geteuid():
        pytest.skip("needs root: it mounts")
    section = StorageSection(max_layer_bytes=64 << 20, max_layer_entries=20_000)
    config = Config(root=str(tmp_path / "root"), run=str(tmp_path / "run"), storage=section)
    config.paths.blobs.mkdir(parents=True)
    service = await create(config)
    try:
        yield Store(service, config)
    finally:
        await service.close()
        for mount in read_overlays():
            if mount.startswith(str(tmp_path) + "/"):
                syscalls.umount2(mount, syscalls.MNT_DETACH)
