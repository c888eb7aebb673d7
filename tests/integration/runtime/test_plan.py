"""What containers are given: by their requests, their images and their pods."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import Mount, NamespaceMode, Resources, Security
from kernel.errors import InvalidInput, NotFound
from kernel.ids import SandboxId, new_id
from tests.integration.runtime.conftest import Node


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mounts": (Mount(host_path="/dev/null/x", container_path="/x"),)}, r"mounts\[0\].host_path: '/dev/null/x"),
        ({"mounts": (Mount(host_path="/tmp", container_path="/x/../../y"),)}, r"mounts\[0\].container_path"),
        ({"log_path": "../../etc/x"}, "log_path"),
        ({"log_path": "/etc/x"}, "log_path"),
        ({"security": Security(run_as_username="nobody-here")}, "run_as_username"),
        ({"security": Security(privileged=True)}, "privileged"),
        ({"stop_signal": "SIGNOPE"}, "stop_signal"),
        ({"resources": Resources(memory_limit_in_bytes=-1)}, "memory_limit_in_bytes"),
        ({"command": ()}, "command"),
    ],
)
async def test_bad_input_names_the_field_and_leaves_nothing(node: Node, fields: dict[str, object], said: str) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, **{"command": ("true",), **fields})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=said):
        await node.create(request)
    inventory = await node.service.inventory(None, node.call())  # type: ignore[arg-type]
    assert inventory.containers == ()
    assert inventory.cgroups == (node.config.runtime.cgroup_parent,)[:0]


async def test_users_by_name_and_groups(node: Node) -> None:
    sandbox = await node.pod()
    who = await node.output(sandbox, "id -u; id -g; id -G; echo $HOME", security=Security(run_as_username="www"))
    assert who.split() == ["33", "33", "33", "44", "55", "/var/www"]
    who = await node.output(sandbox, "id -u; id -g", image=ImageConfig(user="1234:log"))
    assert who.split() == ["1234", "44"]


async def test_a_read_only_root_and_its_writable_places(node: Node, base: Path) -> None:
    (base / "real").mkdir()
    (base / "link").symlink_to("real")
    (base / "ro").mkdir()
    sandbox = await node.pod()
    script = """touch /x || echo root-ro; touch /data/a && echo volume-rw; touch /in/b && echo mount-rw
        touch /ro/c || echo mount-ro; touch /dev/shm/d && echo shm-rw"""
    text = await node.output(
        sandbox, script, security=Security(readonly_rootfs=True), image=ImageConfig(volumes=("/data",)),
        mounts=(
            Mount(host_path=str(base / "link"), container_path="/in"),
            Mount(host_path=str(base / "ro"), container_path="/ro", readonly=True, recursive_read_only=True),
        ),
    )  # fmt: skip
    assert {word for word in text.split() if word.endswith(("-ro", "-rw"))} == {
        "root-ro", "volume-rw", "mount-rw", "mount-ro", "shm-rw",
    }  # fmt: skip
    assert (base / "real" / "b").exists()


async def test_privileged_containers_have_the_hosts_devices(node: Node) -> None:
    sandbox = await node.pod(privileged=True)
    text = await node.output(
        sandbox, "grep CapBnd /proc/self/status; test -e /dev/fuse && echo fuse; echo done",
        security=Security(privileged=True),
    )  # fmt: skip
    ours = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert ours.split()[1] in text
    assert ("fuse" in text) == Path("/dev/fuse").exists()


async def test_environment_and_working_directory(node: Node) -> None:
    sandbox = await node.pod()
    text = await node.output(
        sandbox, "pwd; echo $A $B $HOSTNAME; hostname", working_dir="/made/for/it", envs=(("B", "2"),),
        image=ImageConfig(env=("A=1", "B=1")),
    )  # fmt: skip
    name = os.uname().nodename
    assert text.split() == ["/made/for/it", "1", "2", name, name]


async def test_a_target_containers_processes_are_seen(node: Node) -> None:
    sandbox = await node.pod()
    target = await node.run(sandbox, "sleep", "4321")
    security = Security(pid=NamespaceMode.TARGET, target=target)
    assert "4321" in await node.output(sandbox, "ps", security=security)


async def test_an_unknown_pod_is_not_found(node: Node) -> None:
    with pytest.raises(NotFound):
        await node.create(node.create_request(SandboxId(new_id()), "true"))
