"""`crisp pods`, `stop` and `rm`: pods as a whole, and containers by themselves."""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from kernel.cli import lookup
from kernel.cli.context import Context
from kernel.cli.exit_status import Exit
from kernel.cli.lookup import Named
from kernel.cli.output import Column, Row, duration, short_id, state_style
from kernel.cri.generated import cri_pb2
from kernel.errors import CrispError, FailedPrecondition, NotFound

_STOP_SECONDS = 300
COLUMNS = (
    Column("ID", "id", short_id),
    Column("NAME", "name"),
    Column("NAMESPACE", "namespace"),
    Column("STATE", "state", style=state_style),
    Column("IP", "ip"),
    Column("HANDLER", "handler"),
    Column("AGE", "age", duration, right=True),
)


def pods(context: Context, _: Namespace) -> Exit:
    """List pods."""
    daemon = context.daemon
    found = daemon.call(daemon.runtime.ListPodSandbox, cri_pb2.ListPodSandboxRequest()).items
    rows = []
    for pod in found:
        try:
            request = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=pod.id)
            status = daemon.call(daemon.runtime.PodSandboxStatus, request).status
        except NotFound:
            continue  # it was removed between the two calls
        rows.append(row(pod, status, time.time_ns()))
    context.out.table(COLUMNS, rows)
    return Exit.OK


def row(pod: cri_pb2.PodSandbox, status: cri_pb2.PodSandboxStatus, now: int) -> Row:
    """Return a pod's row for the table and JSON."""
    return {
        "id": pod.id,
        "name": pod.metadata.name,
        "namespace": pod.metadata.namespace,
        "uid": pod.metadata.uid,
        "attempt": pod.metadata.attempt,
        "state": "ready" if pod.state == cri_pb2.SANDBOX_READY else "notready",
        "ip": status.network.ip,
        "ips": [ip for ip in (status.network.ip, *(more.ip for more in status.network.additional_ips)) if ip],
        "handler": pod.runtime_handler,
        "created_at": pod.created_at,
        "age": (now - pod.created_at) // 10**9,
        "labels": dict(pod.labels),
    }


def stop(context: Context, options: Namespace) -> Exit:
    """Stop pods or containers."""
    return _each(context, options.name, "stopped", lambda one: stop_one(context, one, options.timeout))


def remove(context: Context, options: Namespace) -> Exit:
    """Remove pods or containers; with --force, one that does not exist is no error."""
    return _each(
        context, options.name, "removed", lambda one: remove_one(context, one, options.force), ignore=options.force
    )


def stop_one(context: Context, one: Named, timeout: int) -> None:
    """Stop a pod with all its containers, or a container."""
    runtime = context.daemon.runtime
    inside = [one] if not one.is_pod else [c for c in lookup.containers(context.daemon) if c.pod == one.id and c.live]
    for container in inside:
        request = cri_pb2.StopContainerRequest(container_id=container.id, timeout=timeout)
        context.daemon.call(runtime.StopContainer, request, timeout + _STOP_SECONDS)
    if one.is_pod:
        context.daemon.call(runtime.StopPodSandbox, cri_pb2.StopPodSandboxRequest(pod_sandbox_id=one.id), _STOP_SECONDS)


def remove_one(context: Context, one: Named, force: bool) -> None:
    """Remove a pod with all its containers, or a container that does not run or may be killed."""
    runtime = context.daemon.runtime
    if one.is_pod:
        logs = log_directory(context, one.id)
        if not force:
            context.daemon.call(
                runtime.StopPodSandbox, cri_pb2.StopPodSandboxRequest(pod_sandbox_id=one.id), _STOP_SECONDS
            )
        request = cri_pb2.RemovePodSandboxRequest(pod_sandbox_id=one.id)
        context.daemon.call(runtime.RemovePodSandbox, request, _STOP_SECONDS)
        if logs is not None:
            shutil.rmtree(logs, ignore_errors=True)
    else:
        if one.live and not force:
            raise FailedPrecondition(f"container {one.name} runs", hint="stop it first, or give --force")
        context.daemon.call(runtime.RemoveContainer, cri_pb2.RemoveContainerRequest(container_id=one.id), _STOP_SECONDS)


def log_directory(context: Context, sandbox_id: str) -> Path | None:
    """Return the folder of logs that `crisp run` made for a pod; None for a pod of the kubelet or another client."""
    request = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
    metadata = context.daemon.call(context.daemon.runtime.PodSandboxStatus, request).status.metadata
    folder = logs_of(context, metadata)
    return folder if folder.is_dir() and not folder.is_symlink() else None


def logs_of(context: Context, metadata: cri_pb2.PodSandboxMetadata) -> Path:
    """Return the folder of a pod's logs for `crisp run`, named as the kubelet names such folders."""
    name = f"{metadata.namespace}_{metadata.name}_{metadata.uid}".replace("/", "_")
    return context.paths.root / "logs" / name


def _each(context: Context, names: list[str], done: str, act: Callable[[Named], None], *, ignore: bool = False) -> Exit:
    """Act on each object, also after one has failed. The first failure decides the exit status."""
    daemon = context.daemon
    known = [*lookup.pods(daemon), *lookup.containers(daemon)]
    results: list[dict[str, object]] = []
    failures: list[CrispError] = []
    for name in names:
        try:
            one = lookup.pick(known, name, "pod or container")
            act(one)
        except NotFound as error:
            if not ignore:
                failures.append(error)
        except CrispError as error:
            failures.append(error)
        else:
            results.append({"id": one.id, "name": one.name, "kind": "pod" if one.is_pod else "container", done: True})
            if not context.out.json:
                context.out.line(f"{name} {done}")
    if context.out.json:
        context.out.document(results)
    for later in failures[1:]:
        context.out.note(f"crisp: {later}")
    if failures:
        raise failures[0]
    return Exit.OK
