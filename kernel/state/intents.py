"""Intents left by a crash: which flow is finished and which is undone, and in which order. Pure.

An intent is written before the first step of a flow that leaves something on the host, and deleted by the
transaction that records the outcome; one that is found at start-up therefore names a flow that was cut off
anywhere between its steps. Every step is idempotent, so a flow is finished by running it again from the start.

Assumptions:
1. The record of a sandbox or container in CREATING was committed together with its intent, with the whole request
   in it: such a flow can be finished. The kubelet repeats its call, which then joins the flow.
2. After a boot only the files of a pod are left, and the kubelet makes a new sandbox: a flow that creates
   something is then undone.
3. A pull's credentials are never written down: a pull is undone (its layers without an image are dropped),
   and the kubelet repeats it.
4. Removing and stopping are always finished.

The front runs the flows of one wave side by side, and the waves one after the other.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kernel.contracts.records import Intent, IntentKind, Sandbox
from kernel.contracts.supervisor import Snapshot


class Course(enum.Enum):
    """The fate of a flow that was cut off."""

    FINISH = "finish"
    """Run it again from its first step."""
    UNDO = "undo"
    """Remove what it may have left, then delete its record and its intent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One intent and what to do about it."""

    intent: Intent
    course: Course
    why: str

    def describe(self) -> str:
        """Return a description for the log."""
        return f"{self.course.value} {self.intent.kind.value} of {self.intent.id[:20]}: {self.why}"


_WAVES: tuple[tuple[tuple[IntentKind, Course], ...], ...] = (
    # A flow for a thing inside a pod comes before one for the pod. Creations come after all removals, pods first.
    ((IntentKind.REMOVE_CONTAINER, Course.FINISH), (IntentKind.CREATE_CONTAINER, Course.UNDO)),
    (
        (IntentKind.STOP_SANDBOX, Course.FINISH),
        (IntentKind.REMOVE_SANDBOX, Course.FINISH),
        (IntentKind.RUN_SANDBOX, Course.UNDO),
    ),
    ((IntentKind.RUN_SANDBOX, Course.FINISH),),
    ((IntentKind.CREATE_CONTAINER, Course.FINISH),),
    ((IntentKind.REMOVE_IMAGE, Course.FINISH), (IntentKind.PULL_IMAGE, Course.UNDO)),
)


def plan_flows(snapshot: Snapshot, boot_id: str) -> tuple[tuple[Flow, ...], ...]:
    """Return waves of flows for the intents in `snapshot`; no wave is empty."""
    flows = [_flow(intent, snapshot, boot_id) for intent in snapshot.intents]
    waves = (
        tuple(flow for flow in flows if (flow.intent.kind, flow.course) in kinds)  # in the order of their beginning
        for kinds in _WAVES
    )
    return tuple(tuple(sorted(wave, key=lambda flow: flow.intent.begun_at)) for wave in waves if wave)


def _flow(intent: Intent, snapshot: Snapshot, boot_id: str) -> Flow:
    match intent.kind:
        case IntentKind.RUN_SANDBOX:
            course, why = _run_sandbox(_sandbox(snapshot, intent.id), boot_id)
        case IntentKind.CREATE_CONTAINER:
            course, why = _create_container(intent.id, snapshot, boot_id)
        case IntentKind.PULL_IMAGE:
            course, why = Course.UNDO, "a pull is not repeated without its credentials"
        case (
            IntentKind.STOP_SANDBOX | IntentKind.REMOVE_SANDBOX | IntentKind.REMOVE_CONTAINER | IntentKind.REMOVE_IMAGE
        ):
            course, why = Course.FINISH, "it had begun"
    return Flow(intent=intent, course=course, why=why)


def _run_sandbox(sandbox: Sandbox | None, boot_id: str) -> tuple[Course, str]:
    if sandbox is None:
        return Course.UNDO, "there is no record to make it from"
    if sandbox.boot_id != boot_id:
        return Course.UNDO, "the host was booted since"
    return Course.FINISH, "its record holds the whole request"


def _create_container(wanted: str, snapshot: Snapshot, boot_id: str) -> tuple[Course, str]:
    container = next((container for container in snapshot.containers if container.id == wanted), None)
    if container is None:
        return Course.UNDO, "there is no record to make it from"
    if container.boot_id != boot_id:
        return Course.UNDO, "the host was booted since"
    leaving = {
        intent.id for intent in snapshot.intents if intent.kind in (IntentKind.STOP_SANDBOX, IntentKind.REMOVE_SANDBOX)
    }
    if container.sandbox_id in leaving:
        return Course.UNDO, "its pod sandbox is being taken away"
    if _sandbox(snapshot, container.sandbox_id) is None:
        return Course.UNDO, "its pod sandbox is gone"
    if all(image.id != container.image_id for image in snapshot.images):
        return Course.UNDO, "its image is gone"
    return Course.FINISH, "its record holds the whole request"


def _sandbox(snapshot: Snapshot, wanted: str) -> Sandbox | None:
    return next((sandbox for sandbox in snapshot.sandboxes if sandbox.id == wanted), None)
