from __future__ import annotations

import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, Security
from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.spec.security_context.user import User, resolve

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nbroken\n#web:x:9:9::/:\nweb:x:33:34:web:/:/bin/sh\n99:x:7:7::/:\n"
GROUP = b"root:x:0:\nweb:x:34:\nlog:x:44:other,web\nbad:x:x:web\nmail:x:55:web\n"


def request(user: str = "", **fields: object) -> CreateRequest:
    return CreateRequest(
        container_id=ContainerId("c" * 64), sandbox_id=SandboxId("a" * 64), name="n", attempt=0,
        image=ImageConfig(user=user), image_name="box", image_ref="box", passwd=PASSWD, group=GROUP,
        security=Security(**fields),  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups"),
    [
        ("", 0, 0, (0,)),
        ("web", 33, 34, (34, 44, 55)),
        ("33", 33, 34, (34, 44, 55)),
        ("web:log", 33, 44, (44, 55)),
        ("web:77", 33, 77, (77, 44, 55)),
        ("1234", 1234, 0, (0,)),
        ("1234:5", 1234, 5, (5,)),
        ("99", 99, 0, (0,)),
        ("2147483647", 2147483647, 0, (0,)),
    ],
)
def test_the_images_user(user: str, uid: int, gid: int, groups: tuple[int, ...]) -> None:
    assert resolve(request(user)) == User(uid=uid, gid=gid, supplemental_groups=groups)


def test_the_requests_user_comes_before_the_images() -> None:
    assert resolve(request("web", run_as_user=5)) == User(uid=5, gid=0, supplemental_groups=(0,))
    assert resolve(request("0", run_as_username="web", run_as_group=7)) == User(
        uid=33, gid=7, supplemental_groups=(7, 44, 55)
    )


def test_strict_leaves_the_images_groups_out() -> None:
    asked = request("web", supplemental_groups=(100, 34), supplemental_groups_policy="strict")
    assert resolve(asked).supplemental_groups == (34, 100)
    asked = request("web", supplemental_groups=(100, 34))
    assert resolve(asked).supplemental_groups == (34, 44, 55, 100)


@pytest.mark.parametrize(
    "user",
    ["4294967296", "2147483648", "-1", "0x0", " 0", "+0", "1_000", "\uff11", "\u0663", "0:0:0", "web:", "nobody",
     "web:nogroup", "0:-1", "a\nb", "9" * 5000],
)  # fmt: skip
def test_what_is_neither_a_number_nor_a_known_name_is_refused(user: str) -> None:
    if user == "web:":
        assert resolve(request(user)).gid == 34
        return
    with pytest.raises(InvalidInput, match="image box: User"):
        resolve(request(user))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"run_as_user": -1}, "run_as_user"),
        ({"run_as_user": 2**31}, "run_as_user"),
        ({"run_as_group": 5}, "run_as_group"),
        ({"run_as_user": 1, "run_as_group": 2**40}, "run_as_group"),
        ({"supplemental_groups": (1, -5)}, r"supplemental_groups\[1\]"),
        ({"supplemental_groups": tuple(range(70000))}, "supplemental_groups"),
        ({"run_as_username": "a:b\n"}, "run_as_username"),
    ],
)
def test_the_field_that_is_wrong_is_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        resolve(request(**fields))  # type: ignore[arg-type]
