"""`crisp pods`, `stop` and `rm`: pods as a whole, and containers by themselves."""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from kernel.cli import lookup
from kernel.cli.context import Session
from kernel.cli.exits import Exit
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


def pods(session: Session, _: Namespace) -> Exit:
    """List pods."""
    daemon = session.daemon
    found = daemon.call(daemon.runtime.ListPodSandbox, cri_pb2.ListPodSandboxRequest()).items
    rows = []
    for pod in found:
        try:
            asked = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=pod.id)
            status = daemon.call(daemon.runtime.PodSandboxStatus, asked).status
        except NotFound:
            continue  # it was removed between the two questions
        rows.append(row(pod, status, time.time_ns()))
    session.out.table(COLUMNS, rows)
    return Exit.OK


def row(pod: cri_pb2.PodSandbox, status: cri_pb2.PodSandboxStatus, now: int) -> Row:
    """A pod as the table and JSON show it."""
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


def stop(session: Session, options: Namespace) -> Exit:
    """Stop pods or containers."""
    return _each(session, options.name, "stopped", lambda one: stop_one(session, one, options.timeout))


def remove(session: Session, options: Namespace) -> Exit:
    """Remove pods or containers; with --force what is gone already is success."""
    return _each(
        session, options.name, "removed", lambda one: remove_one(session, one, options.force), ignore=options.force
    )


def stop_one(session: Session, one: Named, timeout: int) -> None:
    """Stop a pod with all its containers, or a container."""
    runtime = session.daemon.runtime
    inside = [one] if not one.is_pod else [c for c in lookup.containers(session.daemon) if c.pod == one.id and c.live]
    for container in inside:
        asked = cri_pb2.StopContainerRequest(container_id=container.id, timeout=timeout)
        session.daemon.call(runtime.StopContainer, asked, timeout + _STOP_SECONDS)
    if one.is_pod:
        session.daemon.call(runtime.StopPodSandbox, cri_pb2.StopPodSandboxRequest(pod_sandbox_id=one.id), _STOP_SECONDS)


def remove_one(session: Session, one: Named, force: bool) -> None:
    """Remove a pod with all its containers, or a container that does not run or may be killed."""
    runtime = session.daemon.runtime
    if one.is_pod:
        logs = log_directory(session, one.id)
        if not force:
            session.daemon.call(
                runtime.StopPodSandbox, cri_pb2.StopPodSandboxRequest(pod_sandbox_id=one.id), _STOP_SECONDS
            )
        asked = cri_pb2.RemovePodSandboxRequest(pod_sandbox_id=one.id)
        session.daemon.call(runtime.RemovePodSandbox, asked, _STOP_SECONDS)
        if logs is not None:
            shutil.rmtree(logs, ignore_errors=True)
    else:
        if one.live and not force:
            raise FailedPrecondition(f"container {one.name} runs", hint="stop it first, or give --force")
        session.daemon.call(runtime.RemoveContainer, cri_pb2.RemoveContainerRequest(container_id=one.id), _STOP_SECONDS)


def log_directory(session: Session, pod: str) -> Path | None:
    """The folder of logs that `crisp run` made for a pod; None for another's pod, such as the kubelet's."""
    asked = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=pod)
    metadata = session.daemon.call(session.daemon.runtime.PodSandboxStatus, asked).status.metadata
    folder = logs_of(session, metadata)
    return folder if folder.is_dir() and not folder.is_symlink() else None


def logs_of(session: Session, metadata: cri_pb2.PodSandboxMetadata) -> Path:
    """Where `crisp run` has a pod's logs, named as the kubelet names such folders."""
    name = f"{metadata.namespace}_{metadata.name}_{metadata.uid}".replace("/", "_")
    return session.paths.root / "logs" / name


def _each(session: Session, names: list[str], done: str, act: Callable[[Named], None], *, ignore: bool = False) -> Exit:
    """Act on each by itself: one that fails does not keep the others from it. The first failure decides the status."""
    daemon = session.daemon
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
            if not session.out.json:
                session.out.line(f"{name} {done}")
    if session.out.json:
        session.out.document(results)
    for later in failures[1:]:
        session.out.note(f"crisp: {later}")
    if failures:
        raise failures[0]
    return Exit.OK
