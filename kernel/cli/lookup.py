"""Finding a pod or container by a text: a whole id, the beginning of one, or a name.

A name stands for the newest live object of that name, or for the newest if none is live. The beginning of several ids
is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernel.cli.daemon_client import Daemon
from kernel.cri.generated import cri_pb2
from kernel.errors import FailedPrecondition, InvalidInput, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The properties by which a pod or container is found."""

    id: str
    name: str
    live: bool
    created_at: int
    is_pod: bool
    pod: str = ""
    """The id of a container's pod; empty for a pod."""


def pick(found: Sequence[Named], text: str, what: str, *, pods_first: bool = True) -> Named:
    """Return the object that `text` names.

    Raises NotFound if there is none, InvalidInput if the text is the beginning of several ids. `crisp run` gives a pod
    and its container the same name: `pods_first` decides which of them is returned.
    """
    for one in found:
        if one.id == text:
            return one
    named = [one for one in found if one.name == text]
    if named:
        return max(named, key=lambda one: (one.live, one.is_pod == pods_first, one.created_at))
    begins = [one for one in found if text and one.id.startswith(text)]
    if len(begins) > 1:
        raise InvalidInput(f"{text!r} is the beginning of {len(begins)} ids", hint="give more of it")
    if not begins:
        raise NotFound(f"no {what} {text!r}", hint="see `crisp pods` and `crisp ps --all`")
    return begins[0]


def pods(daemon: Daemon) -> list[Named]:
    """Return all pods."""
    reply = daemon.call(daemon.runtime.ListPodSandbox, cri_pb2.ListPodSandboxRequest())
    return [
        Named(
            id=pod.id,
            name=pod.metadata.name,
            live=pod.state == cri_pb2.SANDBOX_READY,
            created_at=pod.created_at,
            is_pod=True,
        )
        for pod in reply.items
    ]


def containers(daemon: Daemon) -> list[Named]:
    """Return all containers."""
    reply = daemon.call(daemon.runtime.ListContainers, cri_pb2.ListContainersRequest())
    return [
        Named(
            id=container.id,
            name=container.metadata.name,
            live=container.state == cri_pb2.CONTAINER_RUNNING,
            created_at=container.created_at,
            is_pod=False,
            pod=container.pod_sandbox_id,
        )
        for container in reply.containers
    ]


def container(daemon: Daemon, text: str) -> Named:
    """Return a container by its id or name, or the only container of a pod by the pod's id or name."""
    return pick_container(containers(daemon), pods(daemon), text)


def pick_container(all_containers: Sequence[Named], all_pods: Sequence[Named], text: str) -> Named:
    """Return the same as `container`, chosen from these containers and pods."""
    try:
        return pick(all_containers, text, "container")
    except NotFound:
        pod = pick(all_pods, text, "container")
    inside = [one for one in all_containers if one.pod == pod.id]
    live = [one for one in inside if one.live] or inside
    if not live:
        raise NotFound(f"pod {pod.name} has no container")
    if len(live) > 1:
        names = ", ".join(sorted(one.name for one in live))
        raise FailedPrecondition(f"pod {pod.name} has several containers: {names}", hint="name one of them")
    return live[0]
