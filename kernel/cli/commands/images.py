"""`crisp images`, `pull`, `image load` and `image rm`."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kernel.cli.context import Context
from kernel.cli.exit_status import Exit, NotReachable
from kernel.cli.output import Column, Row, short_id, size
from kernel.cri.generated import cri_pb2, node_pb2
from kernel.errors import CrispError, FailedPrecondition, InvalidInput, NotFound, PermissionDenied, ResourceExhausted

if TYPE_CHECKING:
    from rich.progress import TaskID

_LOAD_SECONDS = 900
_PHASES = {
    node_pb2.WAITING: "waiting",
    node_pb2.DOWNLOADING: "downloading",
    node_pb2.UNPACKING: "unpacking",
    node_pb2.DONE: "done",
}
COLUMNS = (
    Column("NAME", "name"),
    Column("ID", "id", short_id),
    Column("SIZE", "size", size, right=True),
    Column("PINNED", "pinned", lambda pinned: "yes" if pinned else ""),
)


def images(context: Context, _: Namespace) -> Exit:
    """List images."""
    daemon = context.daemon
    found = daemon.call(daemon.images.ListImages, cri_pb2.ListImagesRequest()).images
    rows = [row(image) for image in found]
    context.out.table(COLUMNS, rows if context.out.json else _by_name(rows))
    return Exit.OK


def row(image: cri_pb2.Image) -> Row:
    """Return an image's row for JSON."""
    return {
        "id": image.id,
        "tags": list(image.repo_tags),
        "digests": list(image.repo_digests),
        "size": image.size,
        "pinned": image.pinned,
    }


def _by_name(rows: list[Row]) -> list[Row]:
    """Return a row for each name, for people."""
    result: list[Row] = []
    for image in rows:
        tags = image["tags"] if isinstance(image["tags"], list) else []
        result.extend({**image, "name": name} for name in (tags or ["<none>"]))
    return sorted(result, key=lambda image: str(image["name"]))


def pull(context: Context, options: Namespace) -> Exit:
    """Pull an image and print its id."""
    password = sys.stdin.readline().rstrip("\n") if options.password_stdin else ""
    if bool(options.username) != bool(options.password_stdin):
        raise InvalidInput("--username and --password-stdin belong together")
    id_ = pull_one(context, options.image, options.username or "", password)
    if context.out.json:
        context.out.document({"image": options.image, "id": id_})
    else:
        context.out.line(id_)
    return Exit.OK


def pull_one(context: Context, image: str, username: str = "", password: str = "") -> str:
    """Pull an image, with a bar for each layer on a terminal, and return its id."""
    request = node_pb2.PullImageRequest(image=image, username=username, password=password)
    id_ = ""
    with _bars(sys.stderr.isatty()) as bars:
        for message in context.daemon.stream(context.daemon.node.PullImage, request):
            bars.show(message)
            id_ = message.id or id_
    if not id_:
        raise NotReachable("the daemon ended before the image was pulled", hint="pull again: downloaded parts are kept")
    return id_


class _Bars:
    """A display without progress, for an output that is not a terminal."""

    def show(self, message: node_pb2.PullImageResponse) -> None:
        """Show one message of the daemon."""


@contextmanager
def _bars(terminal: bool) -> Iterator[_Bars]:
    if not terminal:
        yield _Bars()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    class Bars(_Bars):
        """A bar for each layer."""

        def __init__(self, progress: Progress) -> None:
            self._progress = progress
            self._tasks: dict[str, TaskID] = {}

        def show(self, message: node_pb2.PullImageResponse) -> None:
            for layer in message.layers:
                name, phase = short_id(layer.digest), _PHASES[layer.phase]
                if name not in self._tasks:
                    self._tasks[name] = self._progress.add_task(name, phase=phase, total=layer.total)
                self._progress.update(self._tasks[name], completed=layer.done, total=layer.total, phase=phase)

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[phase]}"),
        console=Console(stderr=True),
    )
    with progress:
        yield Bars(progress)


def load(context: Context, options: Namespace) -> Exit:
    """Load the images of an archive: an OCI layout or docker-archive tar; `-` reads it from stdin."""
    daemon = context.daemon
    with _incoming(context, options.file) as name:
        request = node_pb2.LoadImageRequest(archive=name)
        loaded = daemon.call(daemon.node.LoadImage, request, _LOAD_SECONDS).images
    if context.out.json:
        context.out.document([{"id": image.id, "names": list(image.names)} for image in loaded])
    else:
        for image in loaded:
            context.out.line(f"loaded {', '.join(image.names) or 'an image without a name'} as {image.id}")
    return Exit.OK


@contextmanager
def _incoming(context: Context, file: str) -> Iterator[str]:
    """Copy an archive into the folder from which the image worker reads, until the body ends. Yields its file name
    there."""
    user = context.config.image.user
    try:
        owner = pwd.getpwnam(user)
    except KeyError as error:
        raise FailedPrecondition(f"user {user} of the image worker does not exist") from error
    with _source(file) as source:
        name = f"{secrets.token_hex(16)}.tar"
        path = context.paths.incoming / name
        try:
            copy = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise NotReachable(f"folder {path.parent} does not exist", hint="start the daemon first") from error
        except PermissionError as error:
            raise PermissionDenied(f"folder {path.parent} cannot be written", hint="run crisp as root") from error
        try:
            with os.fdopen(copy, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fchown(target.fileno(), owner.pw_uid, owner.pw_gid)
            yield name
        except OSError as error:
            raise ResourceExhausted(f"archive {file} cannot be copied to {path.parent}: {error.strerror}") from error
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    if Path(file).is_dir():
        raise InvalidInput(
            f"archive {file} is a folder", hint="give an archive: tar -C FOLDER -c . | crisp image load -"
        )
    try:
        source = open(file, "rb")  # noqa: SIM115  # closed below
    except FileNotFoundError as error:
        raise NotFound(f"archive {file} does not exist") from error
    except OSError as error:
        raise InvalidInput(f"archive {file} cannot be read: {error.strerror}") from error
    with source:
        yield source


def remove(context: Context, options: Namespace) -> Exit:
    """Remove images with all their names."""
    daemon = context.daemon
    failures: list[CrispError] = []
    removed = []
    for name in options.image:
        spec = cri_pb2.ImageSpec(image=name)
        try:
            found = daemon.call(daemon.images.ImageStatus, cri_pb2.ImageStatusRequest(image=spec))
            if not found.HasField("image"):
                raise NotFound(f"no image {name!r}", hint="see `crisp images`")
            by_id = cri_pb2.ImageSpec(image=found.image.id)
            daemon.call(daemon.images.RemoveImage, cri_pb2.RemoveImageRequest(image=by_id), 180)
        except CrispError as error:
            failures.append(error)
        else:
            removed.append({"id": found.image.id, "name": name, "removed": True})
            if not context.out.json:
                context.out.line(f"{name} removed")
    if context.out.json:
        context.out.document(removed)
    for later in failures[1:]:
        context.out.note(f"crisp: {later}")
    if failures:
        raise failures[0]
    return Exit.OK
