"""Which flows are finished and which undone, and in which order."""

from __future__ import annotations

from msgspec.structs import replace

from kernel.contracts.oci import ImageConfig
from kernel.contracts.records import Container, Image, ImageLayer, Intent, IntentKind, Sandbox
from kernel.contracts.supervisor import Snapshot
from kernel.ids import DiffId, Digest, ImageId
from kernel.state.intents import Course, plan_flows
from tests.unit.kernel.state.test_lifecycle import CONTAINER, SANDBOX

BOOT = "boot"
POD = replace(SANDBOX, boot_id=BOOT)
BOX = replace(CONTAINER, boot_id=BOOT)
KEPT, LOOSE = (DiffId(Digest(f"sha256:{letter * 64}")) for letter in "de")
IMAGE = Image(id=BOX.image_id, layers=(ImageLayer(diff_id=KEPT, bytes=1),), size=1, config=ImageConfig())


def intent(kind: IntentKind, id_: str, begun_at: int = 1, layers: tuple[DiffId, ...] = ()) -> Intent:
    return Intent(id=id_, kind=kind, begun_at=begun_at, layers=layers)


def snapshot(
    *intents: Intent,
    sandboxes: tuple[Sandbox, ...] = (POD,),
    containers: tuple[Container, ...] = (BOX,),
    images: tuple[Image, ...] = (IMAGE,),
) -> Snapshot:
    return Snapshot(sandboxes=sandboxes, containers=containers, images=images, intents=intents, exits=())


def courses(found: Snapshot) -> list[list[tuple[IntentKind, Course]]]:
    return [[(flow.intent.kind, flow.course) for flow in wave] for wave in plan_flows(found, BOOT)]


def test_nothing_to_do() -> None:
    assert plan_flows(snapshot(), BOOT) == ()


def test_what_is_made_is_finished_pods_first() -> None:
    found = snapshot(intent(IntentKind.CREATE_CONTAINER, BOX.id), intent(IntentKind.RUN_SANDBOX, POD.id))
    assert courses(found) == [
        [(IntentKind.RUN_SANDBOX, Course.FINISH)],
        [(IntentKind.CREATE_CONTAINER, Course.FINISH)],
    ]


def test_after_a_boot_what_is_made_is_undone_containers_first() -> None:
    found = snapshot(
        intent(IntentKind.RUN_SANDBOX, POD.id),
        intent(IntentKind.CREATE_CONTAINER, BOX.id),
        sandboxes=(replace(POD, boot_id="earlier"),),
        containers=(replace(BOX, boot_id="earlier"),),
    )
    assert courses(found) == [
        [(IntentKind.CREATE_CONTAINER, Course.UNDO)],
        [(IntentKind.RUN_SANDBOX, Course.UNDO)],
    ]


def test_without_a_record_it_is_undone() -> None:
    found = snapshot(intent(IntentKind.RUN_SANDBOX, POD.id), sandboxes=(), containers=())
    assert courses(found) == [[(IntentKind.RUN_SANDBOX, Course.UNDO)]]


def test_a_container_of_a_pod_that_leaves_is_undone_before_the_pod_goes() -> None:
    found = snapshot(intent(IntentKind.REMOVE_SANDBOX, POD.id), intent(IntentKind.CREATE_CONTAINER, BOX.id))
    assert courses(found) == [
        [(IntentKind.CREATE_CONTAINER, Course.UNDO)],
        [(IntentKind.REMOVE_SANDBOX, Course.FINISH)],
    ]


def test_a_container_without_pod_or_image_is_undone() -> None:
    create = intent(IntentKind.CREATE_CONTAINER, BOX.id)
    assert courses(snapshot(create, sandboxes=())) == [[(create.kind, Course.UNDO)]]
    assert courses(snapshot(create, images=())) == [[(create.kind, Course.UNDO)]]


def test_removals_are_finished_containers_before_pods() -> None:
    found = snapshot(
        intent(IntentKind.REMOVE_SANDBOX, POD.id),
        intent(IntentKind.REMOVE_CONTAINER, BOX.id),
        intent(IntentKind.REMOVE_IMAGE, IMAGE.id),
    )
    assert courses(found) == [
        [(IntentKind.REMOVE_CONTAINER, Course.FINISH)],
        [(IntentKind.REMOVE_SANDBOX, Course.FINISH)],
        [(IntentKind.REMOVE_IMAGE, Course.FINISH)],
    ]


def test_a_pull_is_undone() -> None:
    image = ImageId(Digest("sha256:" + "f" * 64))
    ((flow,),) = plan_flows(snapshot(intent(IntentKind.PULL_IMAGE, image, layers=(KEPT, LOOSE))), BOOT)
    assert flow.course is Course.UNDO
    assert "undo pull_image" in flow.describe()


def test_within_a_wave_the_oldest_comes_first() -> None:
    other = "9" * 64
    found = snapshot(intent(IntentKind.STOP_SANDBOX, POD.id, 5), intent(IntentKind.REMOVE_SANDBOX, other, 2))
    ((first, second),) = plan_flows(found, BOOT)
    assert [first.intent.id, second.intent.id] == [other, POD.id]
