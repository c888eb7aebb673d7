"""Containers from creation to removal, with real conmon and runc."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import ContainerRequest, Mount, NamespaceMode, Resources, Security
from kernel.errors import FailedPrecondition, Internal, InvalidInput, NotFound
from kernel.host import pidfd
from kernel.ids import SandboxId, new_id
from tests.integration.runtime.conftest import Node


async def test_exit_code_and_log(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sh", "-c", "echo hello; echo oops >&2; exit 3")
    fact = await node.ended(container)
    assert (fact.state, fact.exit_code, fact.oom_killed) == ("exited", 3, False)
    assert 0 < fact.started_at <= fact.finished_at
    assert sorted(line.split(" ", 1)[1] for line in node.log(sandbox, container)) == ["stderr F oops", "stdout F hello"]


async def test_a_line_without_an_end_is_marked_partial(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "printf", "half")
    await node.ended(container)
    assert node.log(sandbox, container)[0].split(" ", 1)[1] == "stdout P half"


async def test_an_end_by_signal_counts_as_a_shell_does(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sh", "-c", "kill -9 $$")
    assert (await node.ended(container)).exit_code in (0, 137)  # process 1 of a namespace ignores its own SIGKILL
    other = await node.run(sandbox, "sleep", "100")
    os.kill((await node.fact(other)).pid, signal.SIGKILL)
    assert (await node.ended(other)).exit_code == 137


async def test_start_is_once(node: Node) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "sh", "-c", "echo once; exit 0")
    first = await node.create(request)
    assert await node.create(request) == first
    assert (await node.fact(request.container)).state == "created"
    starts = await asyncio.gather(*(node.start(request.container) for _ in range(3)))
    await node.ended(request.container)
    assert {*starts, await node.start(request.container)} == {starts[0]}
    assert len(node.log(sandbox, request.container)) == 1


async def test_the_monitor_is_nobodys_child_and_outlives_its_makers(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sleep", "100")
    bundle = node.config.paths.runtime_state / "containers" / container
    conmon = int((bundle / "conmon.pid").read_text())
    stat = Path(f"/proc/{conmon}/stat").read_text().rpartition(")")[2].split()
    assert int(stat[1]) != os.getpid()
    assert int(stat[3]) not in (os.getsid(0), os.getpid())
    held = {os.readlink(fd) for fd in Path(f"/proc/{conmon}/fd").iterdir()}
    assert not {path for path in held if "pytest" in path or path.endswith((".py", ".log.html"))}
    inner = (await node.fact(container)).pid
    async with asyncio.timeout(10):
        while Path(f"/proc/{inner}/comm").read_text() != "sleep\n":  # the OCI runtime's own process before that
            await asyncio.sleep(0.01)
    assert sorted(fd.name for fd in Path(f"/proc/{inner}/fd").iterdir()) == ["0", "1", "2"]


async def test_a_created_container_is_stopped_and_removed_without_a_start(node: Node) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "sleep", "100")
    await node.create(request)
    await node.stop(request.container, 100)
    assert (await node.fact(request.container)).state == "exited"
    with pytest.raises(FailedPrecondition, match="before it was started"):
        await node.start(request.container)
    await node.remove(request.container)
    await node.remove(request.container)
    with pytest.raises(NotFound):
        await node.start(request.container)


async def test_remove_kills_what_runs(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sh", "-c", "sleep 100 & sleep 100 & wait")
    await node.remove(container)
    assert not (await node.facts()).containers


async def test_an_out_of_memory_kill_is_told(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(
        sandbox, "sh", "-c", "x=a; while true; do x=$x$x; done",
        resources=Resources(memory_limit_in_bytes=32 << 20, cpu_shares=512, cpu_quota=100000, cpu_period=100000),
    )  # fmt: skip
    fact = await node.ended(container, 30)
    assert fact.oom_killed
    assert fact.exit_code == 137
    assert not Path("oom").exists(), "conmon's note belongs in the container's bundle"


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


async def test_a_program_that_is_not_there_is_named(node: Node) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "no-such-program")
    with pytest.raises(Internal, match="no-such-program"):
        await node.create(request)
    assert not (await node.facts()).containers


async def test_an_unknown_pod_is_not_found(node: Node) -> None:
    with pytest.raises(NotFound):
        await node.create(node.create_request(SandboxId(new_id()), "true"))


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


async def test_a_log_is_opened_anew(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sh", "-c", "echo one; while ! test -e /go; do sleep 0.05; done; echo two")
    path = node.base / "logs" / sandbox[:8] / "box" / f"{container[:6]}.log"
    while "one" not in path.read_text():
        await asyncio.sleep(0.02)
    path.rename(path.with_suffix(".old"))
    await node.service.reopen_log(ContainerRequest(container=container), node.call())
    assert path.exists()
    (node.config.paths.rootfs(container) / "go").touch()
    await node.ended(container)
    assert "two" in path.read_text()
    assert "two" not in path.with_suffix(".old").read_text()
    with pytest.raises(FailedPrecondition):
        await node.service.reopen_log(ContainerRequest(container=container), node.call())


async def test_a_log_is_not_written_through_a_link(node: Node, base: Path) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "true")
    folder = base / "logs" / sandbox[:8] / "box"
    folder.mkdir(parents=True)
    (folder / f"{request.container[:6]}.log").symlink_to(base / "target")
    with pytest.raises(InvalidInput, match="log_path"):
        await node.create(request)
    assert not (base / "target").exists()


async def test_without_a_pid_namespace_of_its_own_nothing_outlives_the_container(node: Node) -> None:
    sandbox = await node.pod(pid=NamespaceMode.NODE)
    container = await node.run(
        sandbox, "sh", "-c", "sleep 1234 & echo $$ $!; exit 0", security=Security(pid=NamespaceMode.NODE)
    )
    await node.ended(container)
    shell, left = map(int, node.log(sandbox, container)[0].split()[-2:])
    assert shell > 1
    await node.stop(container, 0)
    assert pidfd.identify(left) is None


async def test_a_target_containers_processes_are_seen(node: Node) -> None:
    sandbox = await node.pod()
    target = await node.run(sandbox, "sleep", "4321")
    security = Security(pid=NamespaceMode.TARGET, target=target)
    assert "4321" in await node.output(sandbox, "ps", security=security)


async def test_crun_is_a_handler(crun_node: Node) -> None:
    sandbox = await crun_node.pod(handler="crun")
    container = await crun_node.run(sandbox, "sh", "-c", "echo crun; exit 4")
    assert (await crun_node.ended(container)).exit_code == 4
    running = await crun_node.run(sandbox, "sleep", "100")
    assert (await crun_node.exec(running, "echo", "in")).stdout == b"in\n"
    with pytest.raises(Internal, match="no-such"):
        await crun_node.exec(running, "no-such")
    with pytest.raises(Internal, match="no-such"):
        await crun_node.run(sandbox, "no-such")
    await crun_node.stop(running, 0)
    await crun_node.remove(running)


async def test_a_terminal(node: Node) -> None:
    sandbox = await node.pod()
    text = await node.output(sandbox, "test -t 0 && echo terminal; echo $TERM", tty=True, stdin=True)
    assert text.split() == ["terminal", "xterm"]
