"""A container's folder: its writable layer, its overlay's work folder, its root's mount point and a note of its layers.

    <containers>/<id>/upper    what the container writes
    <containers>/<id>/work     overlayfs' own
    <containers>/<id>/rootfs   the mount point
    <containers>/<id>/top      a layer over the image's, where what these show together has to be mended
    <containers>/<id>/copy     there where `rootfs` is a copy of the layers instead of a mount
    <containers>/<id>/lower    the layers below, as JSON, lowest first: written first, so that no layer in use goes
    <containers>/<id>/checkpoint  what its checkpoint is made of, or to be restored from
    <containers>/<id>/volumes  a mount point for each image volume, `top-N` for it, and `lower`: their layers, written
                               before `lower`

Runs in threads of the storage worker, one at a time for a container. A folder may outlive its mount (a reboot, a
crash): then it is mounted again with what is in `upper`.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kernel.config.sections import Config
from kernel.contracts.oci import IdMap
from kernel.contracts.storage import Usage
from kernel.errors import FailedPrecondition, Internal, InvalidInput, NotFound, ResourceExhausted
from kernel.ids import ContainerId, DiffId, container_id
from services.storage.layers.layer_store import TEMPORARY, LayerStore
from services.storage.roots import mapped_overlay, mountpoints, overlay, vfs
from services.storage.roots.fixup_layer import Tops, copy_root
from services.storage.trees import quota, removal, usage

LOWER = "lower"
TOP = "top"
COPY = "copy"
VOLUMES = "volumes"
Volumes = tuple[tuple[DiffId, ...], ...]
"""The layers of each image volume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """Whose a container's files are that lives in a user namespace."""

    namespace: Path
    """Its pin."""
    ids: IdMap


class ContainerStore:
    """The folder of containers."""

    def __init__(self, config: Config, layers: LayerStore) -> None:
        paths = config.paths
        self._paths = paths
        self._limits = config.storage
        self._layers = layers
        self._tops = Tops(paths, layers)
        self.nothing = paths.layers.parent / "nothing"
        self._going: set[str] = set()
        self.no_overlay = ""
        """Why new containers get copies of their layers; empty where an overlay can be mounted."""
        for folder in (paths.layers.parent, paths.layers, paths.containers, self.nothing):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        for folder in (paths.layers.parent, paths.containers):
            folder.chmod(0o711)  # the root of a user namespace passes through to its own container's folder
        self.nothing.chmod(0o755)  # an image without layers has it as its root

    def try_overlay(self) -> str:
        """Why no overlay can be mounted where containers lie; empty where one can."""
        name = f"{TEMPORARY}{secrets.token_hex(8)}"
        self._going.add(name)
        try:
            return overlay.try_one(self._paths.containers / name)
        except OSError as error:
            return f"it could not be tried: {error.strerror}"
        finally:
            self._going.discard(name)

    def _folder(self, container: ContainerId) -> Path:
        return self._paths.containers / container_id(container)

    def is_mounted(self, container: ContainerId) -> bool:
        """Whether an overlay is mounted at the container's root, as the kernel says; or its copy is whole."""
        if not (self._folder(container) / "rootfs").exists():
            return False  # a host has hundreds of mounts to read through: not for each new container
        if self._is_copy(container):
            return True
        return os.path.realpath(self._folder(container) / "rootfs") in overlay.read_overlays()

    def claim(self, container: ContainerId, layers: tuple[DiffId, ...], volumes: Volumes = ()) -> None:
        """Note which layers the container uses. NotFound for a layer that is not whole; claimed already is success."""
        for diff_id in {*layers, *(diff_id for volume in volumes for diff_id in volume)}:
            if self._layers.find(diff_id) is None:
                raise NotFound(f"layer {diff_id} is not unpacked")
        folder = self._folder(container)
        noted = self._read_lower(folder)
        if noted is not None:
            if noted != layers or self._read_volumes(folder) != volumes:
                raise FailedPrecondition(f"container {container} has a root file system of other layers")
            return
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if volumes:
                (folder / VOLUMES).mkdir(mode=0o700, exist_ok=True)
                _note(folder / VOLUMES / LOWER, volumes)
            _note(folder / LOWER, layers)
        except OSError as error:
            kind = ResourceExhausted if error.errno in (errno.ENOSPC, errno.EDQUOT) else Internal
            raise kind(f"folder of container {container} cannot be made: {error.strerror}") from error

    def mount(
        self, container: ContainerId, layers: tuple[DiffId, ...], label: str = "", mapped: Mapped | None = None
    ) -> bool:
        """Mount the root of a claimed container. Whether its writable layer is new."""
        folder = self._folder(container)
        stack = self._tops.stack(layers)
        if self._is_copy(container) or (self.no_overlay and not (folder / "upper").exists()):
            self._copy(container, stack, folder / "rootfs", label, mapped)
            return True
        try:
            top = self._tops.make(stack, folder / TOP)
            removal.delete(folder / "work")  # one of a former boot holds the mark of a mount that never ended
            for name in ("work", "rootfs"):
                (folder / name).mkdir(mode=0o700, exist_ok=True)
            new = not (folder / "upper").exists()
            if new:
                self._limit(folder)
                self._make_upper(folder, stack, mapped)
            if mapped:
                os.chown(folder, 0, mapped.ids.root[1])
                folder.chmod(0o710)
        except OSError as error:
            kind = ResourceExhausted if error.errno in (errno.ENOSPC, errno.EDQUOT) else Internal
            raise kind(f"writable layer of container {container} cannot be made: {error.strerror}") from error
        parts = self._tops.diffs(stack) + ([top] if top else [])
        self._attach(overlay.plan_mount(parts, self.nothing, folder, folder / "rootfs", label), mapped)
        return new

    def _is_copy(self, container: ContainerId) -> bool:
        return (self._folder(container) / COPY).exists()

    def _copy(
        self, container: ContainerId, stack: tuple[DiffId, ...], target: Path, label: str, mapped: Mapped | None
    ) -> None:
        """Make a copy of layers where an overlay would be mounted; whole as soon as it is there."""
        if label:
            raise FailedPrecondition(
                f"container {container}: files without an overlay cannot bear the label {label!r}",
                hint=f"no overlay: {self.no_overlay}",
            )
        folder, fresh = self._folder(container), target.with_name(f"{target.name}.new")
        plan, diffs = self._tops.plan(stack), self._tops.diffs(stack)
        try:
            (folder / COPY).touch()
            self._limit(folder)
            removal.delete(fresh)
            fresh.mkdir(mode=0o755)
            implied = [self._tops.implied(diff_id) for diff_id in stack]
            root = vfs.make(fresh, list(zip(diffs, implied, strict=True)), mapped.ids if mapped else None)
            try:
                mountpoints.apply(root, plan.plain if target.name == "rootfs" else ())
            finally:
                os.close(root)
            self._look_as_root(fresh, stack, mapped)
            if mapped:
                os.chown(folder, 0, mapped.ids.root[1])
                folder.chmod(0o710)
            fresh.rename(target)
        except OSError as error:
            kind = ResourceExhausted if error.errno in (errno.ENOSPC, errno.EDQUOT) else Internal
            raise kind(f"layers of container {container} cannot be copied: {error.strerror}") from error

    def _attach(self, plan: overlay.Plan, mapped: Mapped | None) -> None:
        if mapped is None:
            overlay.attach(plan)
        else:
            mapped_overlay.attach(plan, mapped.namespace, self.nothing)

    def mount_volumes(
        self, container: ContainerId, volumes: Volumes, label: str = "", mapped: Mapped | None = None
    ) -> None:
        """Mount the image volumes of a claimed container, those that are not mounted yet."""
        there = overlay.read_overlays() if volumes else set()
        for number, layers in enumerate(volumes):
            target = self._paths.image_volume(container, number)
            if os.path.realpath(target) in there:
                continue
            stack = self._tops.stack(layers)
            if self._is_copy(container):
                if not target.exists():
                    self._copy(container, stack, target, label, mapped)
                continue
            try:
                target.mkdir(mode=0o700, exist_ok=True)
                top = self._tops.make(stack, target.with_name(f"{TOP}-{number}"), volume=True)
            except OSError as error:
                kind = ResourceExhausted if error.errno in (errno.ENOSPC, errno.EDQUOT) else Internal
                raise kind(f"image volume {number} of container {container}: {error.strerror}") from error
            parts = self._tops.diffs(stack) + ([top] if top else [])
            self._attach(overlay.plan_read_only(parts, self.nothing, target, label), mapped)

    def _make_upper(self, folder: Path, stack: tuple[DiffId, ...], mapped: Mapped | None) -> None:
        """The merged root shows the upper folder's mode and owner: those of the topmost layer that says some."""
        fresh = folder / "upper.new"
        fresh.mkdir(exist_ok=True)
        fresh.chmod(0o755)
        self._look_as_root(fresh, stack, mapped)
        fresh.rename(folder / "upper")

    def _limit(self, folder: Path) -> None:
        if self._limits.writable_bytes or self._limits.writable_inodes:
            quota.limit(folder, self._limits.writable_bytes, self._limits.writable_inodes)

    def _look_as_root(self, fresh: Path, stack: tuple[DiffId, ...], mapped: Mapped | None) -> None:
        said = self._tops.plan(stack).root
        if said is not None:
            copy_root(self._paths.layer(stack[said]) / "diff", fresh)
        if mapped:
            status = fresh.stat()
            owner = (status.st_uid, status.st_gid) if said is not None else (0, 0)
            os.chown(fresh, *mapped_overlay.owner(mapped.ids, *owner))

    def remove(self, container: ContainerId) -> None:
        """Unmount and delete; gone already is success."""
        folder = self._folder(container)
        overlay.detach(folder / "rootfs")
        for mounted in (folder / VOLUMES).glob("[0-9]*"):
            overlay.detach(mounted)
        aside = self._paths.containers / f"{TEMPORARY}{secrets.token_hex(8)}"
        self._going.add(aside.name)
        try:
            folder.rename(aside)
            if self._limits.writable_bytes or self._limits.writable_inodes:
                quota.lift(aside)
            removal.delete(aside)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Internal(f"folder of container {container} cannot be deleted: {error.strerror}") from error
        finally:
            self._going.discard(aside.name)

    def parts(self, container: ContainerId) -> tuple[Path, list[Path]]:
        """The writable layer and the files of the layers below."""
        folder = self._folder(container)
        noted = self._read_lower(folder)
        if self._is_copy(container):
            raise FailedPrecondition(
                f"container {container} has a copy of its image for a root: what it changed cannot be told",
                hint=f"no overlay: {self.no_overlay}",
            )
        if noted is None or not (folder / "upper").is_dir():
            raise NotFound(f"container {container} has no root file system")
        return folder / "upper", self._layers.folders(noted)

    def measure(self, container: ContainerId) -> Usage:
        """The space that the writable layer takes."""
        try:
            return usage.measure(self._folder(container) / ("rootfs" if self._is_copy(container) else "upper"))
        except FileNotFoundError as error:
            raise NotFound(f"container {container} has no root file system") from error

    def all(self) -> list[ContainerId]:
        """Containers with a folder, mounted or not."""
        found = []
        for name in sorted(os.listdir(self._paths.containers)):
            with suppress(InvalidInput):  # a folder that is being deleted
                found.append(container_id(name))
        return found

    def mounted(self) -> list[ContainerId]:
        """Containers whose root is mounted."""
        overlays = overlay.read_overlays()
        base = os.path.realpath(self._paths.containers)
        return [
            container
            for container in self.all()
            if f"{base}/{container}/rootfs" in overlays or (self._is_copy(container) and self.is_mounted(container))
        ]

    def partial(self) -> list[str]:
        """Left-overs of deleting, and what is none of ours."""
        return sorted(set(os.listdir(self._paths.containers)) - set(self.all()) - self._going)

    def discard(self, name: str) -> None:
        """Delete a left-over."""
        removal.delete(self._paths.containers / name)

    def user_of(self, diff_id: DiffId) -> ContainerId | None:
        """A container that uses a layer."""
        for container in self.all():
            folder = self._folder(container)
            if diff_id in (self._read_lower(folder) or ()) or any(
                diff_id in volume for volume in self._read_volumes(folder)
            ):
                return container
        return None

    def _read_lower(self, folder: Path) -> tuple[DiffId, ...] | None:
        try:
            return msgspec.json.decode((folder / LOWER).read_bytes(), type=tuple[DiffId, ...])
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _read_volumes(self, folder: Path) -> Volumes:
        try:
            return msgspec.json.decode((folder / VOLUMES / LOWER).read_bytes(), type=Volumes)
        except (FileNotFoundError, msgspec.DecodeError):
            return ()


def _note(path: Path, content: object) -> None:
    """Write a whole note."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(msgspec.json.encode(content))
    fresh.rename(path)
