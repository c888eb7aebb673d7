"""Root file systems and image volumes of containers: mounted over their layers, or copied if no overlay can be mounted.

Runs in threads of the storage worker, one at a time for a container. A folder may outlive its mount (a reboot, a
crash): then it is mounted again with what is in `upper`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kernel.config.paths import Paths
from kernel.config.sections import Config
from kernel.contracts.oci import IdMap
from kernel.contracts.storage import Usage
from kernel.errors import FailedPrecondition, Internal, NotFound, from_os
from kernel.ids import ContainerId, DiffId
from services.storage.layers.layer_store import LayerStore
from services.storage.roots import mapped_overlay, mountpoints, overlay, vfs
from services.storage.roots.container_folders import COPY, VOLUMES, ContainerFolders, Volumes
from services.storage.roots.fixup_layer import FixupLayers, copy_look
from services.storage.trees import quota, removal, usage

TOP = "top"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """The user namespace that a container lives in, which maps the owners of its files."""

    namespace: Path
    """The namespace's pin."""
    ids: IdMap


class RootStore:
    """Mounts or copies roots. Claims are noted in `folders` before anything is mounted."""

    def __init__(self, config: Config, layers: LayerStore, folders: ContainerFolders) -> None:
        paths = config.paths
        self._paths = paths
        self._limits = config.storage
        self._layers = layers
        self._folders = folders
        self._fixups = FixupLayers(paths, layers)
        self.nothing = paths.layers.parent / "nothing"
        """An empty folder: the lowest layer of a mount that would have too few for the kernel."""
        self.no_overlay = ""
        """Why new containers get copies of their layers; empty if an overlay can be mounted."""
        _make_folders(paths, self.nothing)

    def try_overlay(self) -> str:
        """Return why no overlay can be mounted in the folder of containers; empty if one can."""
        with self._folders.temporary() as folder:
            try:
                return overlay.try_one(folder)
            except OSError as error:
                return f"it could not be tried: {error.strerror}"

    def is_mounted(self, container_id: ContainerId) -> bool:
        """Return whether the kernel has an overlay at the container's root, or its copy is whole."""
        rootfs = self._folders.of(container_id) / "rootfs"
        if not rootfs.exists():
            return False  # a host has hundreds of mounts to read through: not for each new container
        return self._is_copy(container_id) or os.path.realpath(rootfs) in overlay.read_overlays()

    def mounted(self) -> list[ContainerId]:
        """Return the containers whose root is mounted, or copied whole."""
        overlays = overlay.read_overlays()
        base = os.path.realpath(self._paths.containers)
        return [
            container_id
            for container_id in self._folders.all()
            if f"{base}/{container_id}/rootfs" in overlays
            or (self._is_copy(container_id) and self.is_mounted(container_id))
        ]

    def mount(
        self, container_id: ContainerId, layers: tuple[DiffId, ...], label: str = "", mapped: Mapped | None = None
    ) -> bool:
        """Mount the root of a container that has claimed these layers. Return whether its writable layer is new."""
        folder = self._folders.of(container_id)
        stack = self._fixups.stack(layers)
        if self._is_copy(container_id) or (self.no_overlay and not (folder / "upper").exists()):
            self._copy(container_id, stack, folder / "rootfs", label, mapped)
            return True
        try:
            top = self._fixups.make(stack, folder / TOP)
            removal.delete(folder / "work")  # one of an earlier boot has the mark of a mount that never ended
            for name in ("work", "rootfs"):
                (folder / name).mkdir(mode=0o700, exist_ok=True)
            new = not (folder / "upper").exists()
            if new:
                self._limit(folder)
                self._make_upper(folder, stack, mapped)
            if mapped:
                _let_pass(folder, mapped)
        except OSError as error:
            raise from_os(error, f"writable layer of container {container_id} cannot be made") from error
        parts = self._fixups.diffs(stack) + ([top] if top else [])
        self._attach(overlay.plan_mount(parts, self.nothing, folder, folder / "rootfs", label), mapped)
        return new

    def mount_volumes(
        self, container_id: ContainerId, volumes: Volumes, label: str = "", mapped: Mapped | None = None
    ) -> None:
        """Mount the image volumes of a container that has claimed them, unless they are mounted already."""
        overlays = overlay.read_overlays() if volumes else set()
        for number, layers in enumerate(volumes):
            target = self._paths.image_volume(container_id, number)
            if os.path.realpath(target) in overlays:
                continue
            stack = self._fixups.stack(layers)
            if self._is_copy(container_id):
                if not target.exists():
                    self._copy(container_id, stack, target, label, mapped)
                continue
            try:
                target.mkdir(mode=0o700, exist_ok=True)
                top = self._fixups.make(stack, target.with_name(f"{TOP}-{number}"), volume=True)
            except OSError as error:
                raise from_os(error, f"image volume {number} of container {container_id}") from error
            parts = self._fixups.diffs(stack) + ([top] if top else [])
            self._attach(overlay.plan_read_only(parts, self.nothing, target, label), mapped)

    def remove(self, container_id: ContainerId) -> None:
        """Unmount a container's root and volumes and delete its folder. Succeeds if there is none."""
        folder = self._folders.of(container_id)
        overlay.detach(folder / "rootfs")
        for volume in (folder / VOLUMES).glob("[0-9]*"):
            overlay.detach(volume)
        with self._folders.temporary() as aside:
            try:
                folder.rename(aside)
                if self._is_limited:
                    quota.lift(aside)
                removal.delete(aside)
            except FileNotFoundError:
                return
            except OSError as error:
                raise Internal(f"folder of container {container_id} cannot be deleted: {error.strerror}") from error

    def parts(self, container_id: ContainerId) -> tuple[Path, list[Path]]:
        """Return the writable layer, and the files of the layers below, lowest first.

        NotFound if the container has no root, FailedPrecondition if that is a copy, whose changes are not
        known.
        """
        folder = self._folders.of(container_id)
        noted = self._folders.layers_of(container_id)
        if self._is_copy(container_id):
            raise FailedPrecondition(
                f"container {container_id} has a copy of its image for a root: what it changed cannot be told",
                hint=f"no overlay: {self.no_overlay}",
            )
        if noted is None or not (folder / "upper").is_dir():
            raise NotFound(f"container {container_id} has no root file system")
        return folder / "upper", self._layers.folders(noted)

    def measure(self, container_id: ContainerId) -> Usage:
        """Return the space that the writable layer takes."""
        try:
            return usage.measure(
                self._folders.of(container_id) / ("rootfs" if self._is_copy(container_id) else "upper")
            )
        except FileNotFoundError as error:
            raise NotFound(f"container {container_id} has no root file system") from error

    def _is_copy(self, container_id: ContainerId) -> bool:
        return (self._folders.of(container_id) / COPY).exists()

    def _attach(self, plan: overlay.Plan, mapped: Mapped | None) -> None:
        if mapped is None:
            overlay.attach(plan)
        else:
            mapped_overlay.attach(plan, mapped.namespace, self.nothing)

    def _copy(
        self, container_id: ContainerId, stack: tuple[DiffId, ...], target: Path, label: str, mapped: Mapped | None
    ) -> None:
        """Make a copy of layers in the place of an overlay. It is whole as soon as `target` exists."""
        if label:
            raise FailedPrecondition(
                f"container {container_id}: files without an overlay cannot bear the label {label!r}",
                hint=f"no overlay: {self.no_overlay}",
            )
        folder, fresh = self._folders.of(container_id), target.with_name(f"{target.name}.new")
        plan, diffs = self._fixups.plan(stack), self._fixups.diffs(stack)
        try:
            (folder / COPY).touch()
            self._limit(folder)
            removal.delete(fresh)
            fresh.mkdir(mode=0o755)
            implied = [self._fixups.implied(diff_id) for diff_id in stack]
            root = vfs.make(fresh, list(zip(diffs, implied, strict=True)), mapped.ids if mapped else None)
            try:
                mountpoints.apply(root, plan.plain if target.name == "rootfs" else ())
            finally:
                os.close(root)
            self._look_as_root(fresh, stack, mapped)
            if mapped:
                _let_pass(folder, mapped)
            fresh.rename(target)
        except OSError as error:
            raise from_os(error, f"layers of container {container_id} cannot be copied") from error

    def _make_upper(self, folder: Path, stack: tuple[DiffId, ...], mapped: Mapped | None) -> None:
        """Make the writable layer. The merged root shows its mode and owner, so they are those of the image's root."""
        fresh = folder / "upper.new"
        fresh.mkdir(exist_ok=True)
        fresh.chmod(0o755)
        self._look_as_root(fresh, stack, mapped)
        fresh.rename(folder / "upper")

    def _look_as_root(self, fresh: Path, stack: tuple[DiffId, ...], mapped: Mapped | None) -> None:
        """Give a folder the mode and owner of the topmost layer whose tar has an entry for its root."""
        source = self._fixups.plan(stack).root
        if source is not None:
            copy_look(self._paths.layer(stack[source]) / "diff", fresh)
        if mapped:
            status = fresh.stat()
            owner = (status.st_uid, status.st_gid) if source is not None else (0, 0)
            os.chown(fresh, *mapped_overlay.owner(mapped.ids, *owner))

    @property
    def _is_limited(self) -> bool:
        return bool(self._limits.writable_bytes or self._limits.writable_inodes)

    def _limit(self, folder: Path) -> None:
        if self._is_limited:
            quota.limit(folder, self._limits.writable_bytes, self._limits.writable_inodes)


def _make_folders(paths: Paths, nothing: Path) -> None:
    for folder in (paths.layers.parent, paths.layers, paths.containers, nothing):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    for folder in (paths.layers.parent, paths.containers):
        folder.chmod(0o711)  # the root of a user namespace passes through to its own container's folder
    nothing.chmod(0o755)  # an image without layers has it as its root


def _let_pass(folder: Path, mapped: Mapped) -> None:
    """Let the root group of a user namespace pass through a container's folder: the OCI runtime goes by path."""
    os.chown(folder, 0, mapped.ids.root[1])
    folder.chmod(0o710)
