"""Containers made from checkpoints, through the front's flow with workers of paper."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from kernel.contracts import runtime, storage
from kernel.contracts.definition import Message
from kernel.contracts.supervisor import Commit
from kernel.errors import FailedPrecondition, Internal, InvalidInput, NotFound, PermissionDenied
from kernel.front import recovery
from kernel.front.containers import create_plan
from kernel.front.context import Front
from kernel.ids import Digest, ImageId
from tests.harness.fakes import pod_workers as fakes

HEX = fakes.IMAGE.id.removeprefix("sha256:")
CHECKPOINT = replace(
    fakes.IMAGE, id=ImageId(Digest("sha256:" + "9" * 64)), tags=("reg.example/team/saved:1",), digests=(),
    checkpoint_of="main",
)  # fmt: skip


class Host(fakes.Host):
    """One that has checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, object] = {"rootfsImageRef": HEX}
        self.spec: dict[str, object] = {}
        self.restored: list[storage.RestoreRequest] = []
        self.created: list[runtime.CreateRequest] = []

    def _answer(self, name: str, request: Message) -> Message:
        match request:
            case storage.Checkpoint():
                return storage.Descriptions(
                    config=json.dumps(self.config).encode(), spec=json.dumps(self.spec).encode()
                )
            case storage.RestoreRequest():
                assert request.container_id in self.mounts
                self.restored.append(request)
                return storage.Checkpoint()
            case runtime.CreateRequest():
                self.created.append(request)
            case runtime.ContainerRequest() if name == "start":
                super()._answer(name, request)
                return runtime.Started(started_at=50, pid=77)
        return super()._answer(name, request)


@pytest.fixture
def host() -> Host:
    return Host()


def allow(front: Front, **settings: object) -> None:
    front.config = replace(front.config, runtime=replace(front.config.runtime, **settings))


async def test_an_archive_is_restored_over_its_image(front: Front, host: Host, pod: str) -> None:
    host.spec = {"mounts": [{"destination": "/data", "type": "bind"}], "annotations": {"cdi.k8s.io/a": "v.com/x=y"}}
    container = await fakes.create(front, pod, fakes.container_config(image="/archives/a.tar"))
    record = front.replica.container(container)
    assert (record.image_id, record.image_name) == (fakes.IMAGE.id, fakes.IMAGE.tags[0])
    assert record.restored_from == "/archives/a.tar"
    asked = host.created[0]
    assert (asked.restores, asked.restored_mounts) == (True, ("/data",))
    assert (asked.annotations, asked.cdi_devices, asked.mounts) == ({}, (), ())
    assert host.restored[0].checkpoint == storage.Checkpoint(archive="/archives/a.tar")
    assert host.calls.index("mount") < host.calls.index("restore") < host.calls.index("create")
    await fakes.start(front, container)
    assert front.replica.container(container).pid == 77


async def test_a_repeat_gets_the_same_container(front: Front, host: Host, pod: str) -> None:
    config = fakes.container_config(image="/archives/a.tar")
    assert await fakes.create(front, pod, config) == await fakes.create(front, pod, config)
    assert host.count("restore") == 1


async def test_a_creation_that_fails_leaves_nothing(front: Front, host: Host, pod: str) -> None:
    host.fail["restore"] = [Internal("broken")]
    with pytest.raises(Internal, match="broken"):
        await fakes.create(front, pod, fakes.container_config(image="/archives/a.tar"))
    assert (host.mounts, host.containers, host.disk.containers, host.disk.intents) == (set(), {}, {}, {})


async def test_a_creation_that_was_cut_off_is_finished(front: Front, host: Host, pod: str) -> None:
    container = await fakes.create(front, pod, fakes.container_config(image="/archives/a.tar"))
    record = front.replica.container(container)
    plan = create_plan.plan_again(front, record)
    assert (plan.restores, plan.image_name) == (True, fakes.IMAGE.tags[0])
    assert recovery


@pytest.mark.parametrize("setting", ["none", "checkpoint_only"])
async def test_the_configuration_forbids_it(front: Front, host: Host, pod: str, setting: str) -> None:
    allow(front, checkpoint=setting)
    with pytest.raises(FailedPrecondition, match="not restored on this node"):
        await fakes.create(front, pod, fakes.container_config(image="/archives/a.tar"))
    assert host.count("describe") == 0


async def test_what_does_not_fit(front: Front, host: Host, pod: str) -> None:
    async def create(image: str = "/archives/a.tar") -> None:
        await fakes.create(front, pod, fakes.container_config(image=image))

    with pytest.raises(InvalidInput, match=r"config\.image\.image"):
        await create("/archives/../a.tar")
    host.spec = {"process": {"terminal": True}}
    with pytest.raises(InvalidInput, match=r"config\.tty"):
        await create()
    host.spec = {}
    host.config = {"rootfsImageRef": "e" * 64, "rootfsImageName": fakes.IMAGE.tags[0]}
    with pytest.raises(NotFound, match="pull it first, with id"):
        await create()  # another image has the name by now
    host.config = {"rootfsImageName": "busybox"}
    await create()


async def test_an_image_is_restored_where_it_is_listed(front: Front, host: Host, pod: str) -> None:
    await front.replica.commit(Commit(put_images=(CHECKPOINT,)), fakes.a_call().deadline)
    config = fakes.container_config(image=CHECKPOINT.tags[0])
    with pytest.raises(PermissionDenied, match="checkpoint of container 'main'"):
        await fakes.create(front, pod, config)
    allow(front, checkpoint_images=("reg.example/other", "reg.example/team/saved"))
    container = await fakes.create(front, pod, config)
    record = front.replica.container(container)
    assert (record.image_id, record.restored_from) == (fakes.IMAGE.id, CHECKPOINT.id)
    assert host.restored[0].checkpoint == storage.Checkpoint(layers=(fakes.DIFF,))
    allow(front, checkpoint="checkpoint_only")
    with pytest.raises(FailedPrecondition, match="not restored"):
        await fakes.create(front, pod, fakes.container_config(name="other", image=CHECKPOINT.tags[0]))
