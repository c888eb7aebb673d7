"""`crisp ps`, `exec`, `inspect` and `logs`: containers."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from pathlib import Path

from kernel.cli import log_files, lookup
from kernel.cli.commands import streaming
from kernel.cli.context import Context
from kernel.cli.exit_status import Exit
from kernel.cli.output import Column, Row, duration, short_id, state_style
from kernel.cri.generated import cri_pb2
from kernel.errors import FailedPrecondition, NotFound
from kernel.ids import short

_STATES = {
    cri_pb2.CONTAINER_CREATED: "created",
    cri_pb2.CONTAINER_RUNNING: "running",
    cri_pb2.CONTAINER_EXITED: "exited",
    cri_pb2.CONTAINER_UNKNOWN: "unknown",
}
_POLL_SECONDS = 0.2
COLUMNS = (
    Column("ID", "id", short_id),
    Column("NAME", "name"),
    Column("POD", "pod_name"),
    Column("IMAGE", "image"),
    Column("STATE", "state", style=state_style),
    Column("AGE", "age", duration, right=True),
)


def ps(context: Context, options: Namespace) -> Exit:
    """List containers: those that run, or all."""
    daemon = context.daemon
    names = {pod.id: pod.name for pod in lookup.pods(daemon)}
    found = daemon.call(daemon.runtime.ListContainers, cri_pb2.ListContainersRequest()).containers
    shown = [one for one in found if options.all or one.state == cri_pb2.CONTAINER_RUNNING]
    context.out.table(COLUMNS, [row(one, names.get(one.pod_sandbox_id, ""), time.time_ns()) for one in shown])
    return Exit.OK


def row(container: cri_pb2.Container, pod_name: str, now: int) -> Row:
    """Return a container's row for the table and JSON."""
    return {
        "id": container.id,
        "name": container.metadata.name,
        "attempt": container.metadata.attempt,
        "pod": container.pod_sandbox_id,
        "pod_name": pod_name,
        "image": container.image.user_specified_image or container.image.image or container.image_ref,
        "image_id": container.image_id or container.image_ref,
        "state": _STATES[container.state],
        "created_at": container.created_at,
        "age": (now - container.created_at) // 10**9,
        "labels": dict(container.labels),
    }


def execute(context: Context, options: Namespace) -> int:
    """Run a command in a container; the exit status is the command's."""
    if options.interactive or options.tty:
        return streaming.execute(context, options)
    daemon = context.daemon
    found = lookup.container(daemon, options.container)
    request = cri_pb2.ExecSyncRequest(container_id=found.id, cmd=options.command, timeout=options.timeout)
    reply = daemon.call(daemon.runtime.ExecSync, request, options.timeout + 5 if options.timeout else 3600)
    if context.out.json:
        context.out.document(
            {
                "stdout": reply.stdout.decode(errors="replace"),
                "stderr": reply.stderr.decode(errors="replace"),
                "exit_code": reply.exit_code,
            }
        )
    else:
        sys.stdout.buffer.write(reply.stdout)
        sys.stdout.flush()
        sys.stderr.buffer.write(reply.stderr)
    return reply.exit_code


def inspect(context: Context, options: Namespace) -> Exit:
    """Show all details of a container, pod or image as JSON; for a container also its OCI specification."""
    from google.protobuf.json_format import MessageToDict

    daemon = context.daemon
    reply: cri_pb2.ContainerStatusResponse | cri_pb2.PodSandboxStatusResponse | cri_pb2.ImageStatusResponse
    try:
        one = lookup.pick([*lookup.containers(daemon), *lookup.pods(daemon)], options.name, "object", pods_first=False)
    except NotFound:
        image_request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=options.name), verbose=True)
        reply = daemon.call(daemon.images.ImageStatus, image_request)
        if not reply.HasField("image"):
            raise NotFound(f"no pod, container or image {options.name!r}") from None
    else:
        if one.is_pod:
            pod_request = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=one.id, verbose=True)
            reply = daemon.call(daemon.runtime.PodSandboxStatus, pod_request)
        else:
            request = cri_pb2.ContainerStatusRequest(container_id=one.id, verbose=True)
            reply = daemon.call(daemon.runtime.ContainerStatus, request)
    status = reply.image if isinstance(reply, cri_pb2.ImageStatusResponse) else reply.status
    document: dict[str, object] = {"status": MessageToDict(status, always_print_fields_with_no_presence=True)}
    document["info"] = _info(dict(reply.info))
    context.out.document(document)
    return Exit.OK


def _info(info: dict[str, str]) -> object:
    """Return the verbose info: parsed, if it is one JSON text under the key `info`; else each key's value."""
    parsed: dict[str, object] = {}
    for key, value in info.items():
        try:
            parsed[key] = json.loads(value)
        except ValueError:
            parsed[key] = value
    inner = parsed.get("info")
    return inner if isinstance(inner, dict) and len(parsed) == 1 else parsed


def logs(context: Context, options: Namespace) -> Exit:
    """Show a container's log: its stdout on stdout, its stderr on stderr."""
    daemon = context.daemon
    found = lookup.container(daemon, options.container)
    path = log_path(context, found.id)
    printer = log_files.Printer(sys.stdout.buffer, sys.stderr.buffer, timestamps=options.timestamps)
    with log_files.Reader(path) as reader:
        entries = reader.read()
        printer.show(entries if options.tail is None else log_files.tail(entries, options.tail))
        if options.follow:
            follow(context, found.id, reader, printer)
    return Exit.OK


def log_path(context: Context, container_id: str) -> Path:
    """Return the path of a container's log; raises FailedPrecondition if it has none."""
    request = cri_pb2.ContainerStatusRequest(container_id=container_id)
    path = context.daemon.call(context.daemon.runtime.ContainerStatus, request).status.log_path
    if not path:
        raise FailedPrecondition(f"container {short(container_id)} has no log")
    return Path(path)


def follow(context: Context, container_id: str, reader: log_files.Reader, printer: log_files.Printer) -> int:
    """Show the log as it grows until the container has ended, and return its exit code."""
    import threading

    daemon = context.daemon
    pause = threading.Event()  # never set: the wait only sleeps, and a signal ends it
    while True:
        # The status is read before the log, so that the last output of a container that has ended is not missed.
        try:
            status = daemon.call(
                daemon.runtime.ContainerStatus, cri_pb2.ContainerStatusRequest(container_id=container_id)
            ).status
        except NotFound:
            return Exit.NOT_FOUND
        printer.show(reader.read())
        if status.state in (cri_pb2.CONTAINER_EXITED, cri_pb2.CONTAINER_UNKNOWN):
            return status.exit_code
        pause.wait(_POLL_SECONDS)
