"""What a user namespace changes in a specification, and what is refused in it."""

from __future__ import annotations

import pytest

from kernel.contracts.oci import IdMap, IdRange, ImageConfig
from kernel.contracts.runtime import CreateRequest, Mount, NamespaceMode, PodRequest, Propagation, Security
from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.spec import user_namespace_spec
from services.runtime.spec.security_context.user import User

SANDBOX = SandboxId("1" * 64)
TTY = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["gid=5", "mode=0620"]}
SYS = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]}
SPEC: user_namespace_spec.Spec = {"mounts": [TTY, SYS], "linux": {"namespaces": [{"type": "mount"}]}, "root": {}}


def pod(length: int = 65536, network: NamespaceMode = NamespaceMode.POD, **fields: NamespaceMode) -> PodRequest:
    ids = IdRange(container_id=0, host_id=100000, length=length)
    return PodRequest(
        sandbox_id=SANDBOX, name="n", namespace="s", uid="u", user_namespace=IdMap(uids=ids, gids=ids), network=network,
        **fields,
    )  # fmt: skip


def request(**fields: object) -> CreateRequest:
    return CreateRequest(
        container_id=ContainerId("2" * 64), sandbox_id=SANDBOX, name="c", attempt=0, image=ImageConfig(),
        image_name="i",
        image_ref="r", **fields,
    )  # type: ignore[arg-type]  # fmt: skip


def test_nothing_changes_without_one() -> None:
    plain = PodRequest(sandbox_id=SANDBOX, name="n", namespace="s", uid="u")
    assert user_namespace_spec.apply(SPEC, plain, "/pin") is SPEC
    user_namespace_spec.check_pod(plain)
    user_namespace_spec.check(plain, request(), User(uid=99999, gid=0, supplemental_groups=()))


def test_the_namespace_is_joined_and_its_maps_are_said() -> None:
    found = user_namespace_spec.apply(SPEC, pod(), "/pin")
    linux = found["linux"]
    assert isinstance(linux, dict)
    assert linux["namespaces"] == [{"type": "mount"}, {"type": "user", "path": "/pin"}]
    assert linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 0, "hostID": 100000, "size": 65536}]
    assert found["mounts"] == [TTY, SYS]
    assert found["root"] == {}


def test_terminals_belong_to_no_group_that_is_not_there() -> None:
    found = user_namespace_spec.apply(SPEC, pod(length=5), "/pin")["mounts"]
    assert found == [{**TTY, "options": ["mode=0620"]}, SYS]


def test_sysfs_is_the_hosts_on_its_network() -> None:
    found = user_namespace_spec.apply(SPEC, pod(network=NamespaceMode.NODE), "/pin")["mounts"]
    assert isinstance(found, list)
    assert found[1] == {"destination": "/sys", "type": "bind", "source": "/sys",
                        "options": ["rbind", "rslave", "nosuid", "ro"]}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "user"),
    [
        ("run_as_user", User(uid=10, gid=0, supplemental_groups=())),
        ("run_as_group", User(uid=9, gid=10, supplemental_groups=())),
        ("supplemental_groups", User(uid=0, gid=0, supplemental_groups=(9, 10))),
    ],
)
def test_ids_that_are_not_there(field: str, user: User) -> None:
    with pytest.raises(InvalidInput, match=rf"{field}: 10"):
        user_namespace_spec.check(pod(length=10), request(), user)


def test_what_a_user_namespace_cannot_have() -> None:
    nobody = User(uid=0, gid=0, supplemental_groups=())
    shared = Mount(container_path="/a", host_path="/b", propagation=Propagation.BIDIRECTIONAL)
    with pytest.raises(InvalidInput, match=r"mounts\[0\]\.propagation"):
        user_namespace_spec.check(pod(), request(mounts=(shared,)), nobody)
    with pytest.raises(InvalidInput, match=r"namespace_options\.pid"):
        user_namespace_spec.check(pod(), request(security=Security(pid=NamespaceMode.NODE)), nobody)
    for field in ("pid", "ipc"):
        with pytest.raises(InvalidInput, match=rf"namespace_options\.{field}"):
            user_namespace_spec.check_pod(pod(**{field: NamespaceMode.NODE}))
