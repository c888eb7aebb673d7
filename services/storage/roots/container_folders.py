"""The folders of containers, and the notes in them about the layers that each container uses.

    <containers>/<id>/upper    the writable layer
    <containers>/<id>/work     a folder for overlayfs itself
    <containers>/<id>/rootfs   the mount point
    <containers>/<id>/top      an extra layer over the image's, if the merged view needs it (`fixup_layer`)
    <containers>/<id>/copy     a mark: `rootfs` is a copy of the layers instead of a mount
    <containers>/<id>/lower    the layers below, as JSON, lowest first: written first, so that none in use is removed
    <containers>/<id>/checkpoint  the parts of its checkpoint, being made or restored
    <containers>/<id>/volumes  a mount point for each image volume, `top-N` for it, and `lower`: their layers, written
                               before the `lower` above

Runs in threads of the storage worker, one at a time for a container. The folder is the only record of a container in
this worker, so everything is read from it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from kernel import ids
from kernel.config.paths import Paths
from kernel.errors import FailedPrecondition, InvalidInput, NotFound, from_os
from kernel.host import files
from kernel.ids import ContainerId, DiffId
from services.storage.layers.layer_store import LayerStore
from services.storage.layers.record import TEMPORARY
from services.storage.trees import removal

LOWER = "lower"
COPY = "copy"
VOLUMES = "volumes"
Volumes = tuple[tuple[DiffId, ...], ...]
"""The layers of each image volume, lowest first."""


class ContainerFolders:
    """The folder of containers."""

    def __init__(self, paths: Paths, layers: LayerStore) -> None:
        self._folder = paths.containers
        self._layers = layers
        self._in_use: set[str] = set()
        """Names of temporary folders that this worker works in."""

    def of(self, container_id: ContainerId) -> Path:
        """Return a container's folder; InvalidInput if `container_id` is no id."""
        return self._folder / ids.container_id(container_id)

    def claim(self, container_id: ContainerId, layers: tuple[DiffId, ...], volumes: Volumes = ()) -> None:
        """Note the layers that a container uses, so that they cannot be removed. Succeeds if they are noted already.

        NotFound for a layer that is not whole, FailedPrecondition for a container that has other layers.
        """
        for diff_id in {*layers, *(diff_id for volume in volumes for diff_id in volume)}:
            if self._layers.find(diff_id) is None:
                raise NotFound(f"layer {diff_id} is not unpacked")
        folder = self.of(container_id)
        noted = self.layers_of(container_id)
        if noted is not None:
            if noted != layers or self.volumes_of(container_id) != volumes:
                raise FailedPrecondition(f"container {container_id} has a root file system of other layers")
            return
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            # Not durable: a file that a crash of the machine loses is written again by the next claim, before a mount.
            if volumes:
                (folder / VOLUMES).mkdir(mode=0o700, exist_ok=True)
                files.replace(folder / VOLUMES / LOWER, msgspec.json.encode(volumes), durable=False)
            files.replace(folder / LOWER, msgspec.json.encode(layers), durable=False)
        except OSError as error:
            raise from_os(error, f"folder of container {container_id} cannot be made") from error

    def layers_of(self, container_id: ContainerId) -> tuple[DiffId, ...] | None:
        """Return the layers that a container uses, lowest first; None if none are noted."""
        try:
            return msgspec.json.decode((self.of(container_id) / LOWER).read_bytes(), type=tuple[DiffId, ...])
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def volumes_of(self, container_id: ContainerId) -> Volumes:
        """Return the layers of a container's image volumes."""
        try:
            return msgspec.json.decode((self.of(container_id) / VOLUMES / LOWER).read_bytes(), type=Volumes)
        except (FileNotFoundError, msgspec.DecodeError):
            return ()

    def user_of(self, diff_id: DiffId) -> ContainerId | None:
        """Return a container that uses a layer, or None."""
        for container_id in self.all():
            if diff_id in (self.layers_of(container_id) or ()) or any(
                diff_id in volume for volume in self.volumes_of(container_id)
            ):
                return container_id
        return None

    def all(self) -> list[ContainerId]:
        """Return the ids of containers with a folder, mounted or not."""
        found = []
        for name in sorted(os.listdir(self._folder)):
            with suppress(InvalidInput):  # a folder that is being deleted
                found.append(ids.container_id(name))
        return found

    def partial(self) -> list[str]:
        """Return the names of folders that an interrupted deletion has left, and of entries that are not crisp's."""
        return sorted(set(os.listdir(self._folder)) - set(self.all()) - self._in_use)

    def discard(self, name: str) -> None:
        """Delete a folder by name."""
        removal.delete(self._folder / name)

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Yield a path for a folder that is not a container's; `partial` leaves it out while the body runs."""
        path = self._folder / f"{TEMPORARY}{secrets.token_hex(8)}"
        self._in_use.add(path.name)
        try:
            yield path
        finally:
            self._in_use.discard(path.name)
