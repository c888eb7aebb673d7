"""What the node's administrator gives to containers: hooks of a folder, default mounts, limits, variables and more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import INVALID, Cri, Pod, container_config, pod_config, refused
from tests.harness.daemon import Daemon, serving
from tests.integration.conftest import insecure


def hook_file(folder: Path, name: str, when: dict[str, object], stage: str = "createRuntime") -> None:
    """A hook that adds the container's id to a file named as itself."""
    at = folder.parent
    find = r"""sed -n 's/.*"id":"\([0-9a-f]*\)".*/\1/p'"""
    script = f"{find} > {at}/id; echo $(cat {at}/id) >> {at}/ran-{name}"
    (folder / f"{name}.json").write_text(
        json.dumps({
            "version": "1.0.0",
            "hook": {"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 10},
            "when": when,
            "stages": [stage],
        })
    )  # fmt: skip


@pytest.fixture(scope="module")
def daemon(system_users: None, registry) -> Iterator[Daemon]:
    """One whose configuration says something of everything."""
    mine = Daemon(insecure(registry.address))
    hooks, secret = mine.folder / "hooks.d", mine.folder / "secret"
    hooks.mkdir()
    secret.mkdir()
    (secret / "key").write_text("for every container\n")
    (mine.folder / "mounts.conf").write_text(f"# of the node\n{secret}:/run/secrets\n/no/such/folder:/absent\n")
    hook_file(hooks, "always", {"always": True})
    hook_file(hooks, "never", {"always": False})
    hook_file(hooks, "sleepers", {"commands": ["^sleep$"]}, "poststart")
    hook_file(hooks, "noted", {"annotations": {"^hook\\.test/": "^yes$"}}, "prestart")
    hook_file(hooks, "bound", {"hasBindMounts": True}, "poststop")
    hook_file(hooks, "both", {"hasBindMounts": True, "commands": ["^sleep$"]})
    settings = {
        "hooks_dirs": [str(mine.folder / "none"), str(hooks)],
        "default_mounts_file": str(mine.folder / "mounts.conf"),
        "default_ulimits": ["nofile=512:1024", "core=0"],
        "default_env": ["NODE_WIDE=yes", "PATH=/node", "REPLACED=node"],
        "default_sysctls": {"net.ipv4.ip_unprivileged_port_start": "70", "kernel.shm_rmid_forced": "1"},
        "timezone": "Asia/Tokyo" if Path("/usr/share/zoneinfo/Asia/Tokyo").exists() else "Local",
        "umask": "0077",
        "shm_size": 1 << 20,
    }
    with serving(mine, runtime=settings):
        yield mine


def ran(daemon: Daemon, name: str) -> list[str]:
    """The containers that a hook ran for."""
    path = daemon.folder / f"ran-{name}"
    return path.read_text().split() if path.exists() else []


def test_hooks_run_where_their_conditions_hold(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    plain = pod.run("sh", "-c", "sleep 600")
    sleeper = pod.run("sleep", "600", annotations={"hook.test/a": "yes", "other": "x"})
    bound = pod.run("sleep", "600", mounts=[pb.Mount(container_path="/x", host_path=str(daemon.folder / "secret"))])
    for one in (plain, sleeper, bound):
        cri.stop(one, 0)
        cri.remove(one)
    assert ran(daemon, "always") == [plain, sleeper, bound]
    assert ran(daemon, "never") == []
    assert ran(daemon, "sleepers") == [sleeper, bound]
    assert ran(daemon, "noted") == [sleeper]
    assert ran(daemon, "both") == [bound]
    assert ran(daemon, "bound") == [bound]  # after its end


def test_a_hook_that_fails_fails_the_container(pod: Pod, daemon: Daemon) -> None:
    path = daemon.folder / "hooks.d" / "fails.json"
    before = daemon.leaks()
    content = {
        "version": "1.0.0", "hook": {"path": "/bin/false"}, "when": {"commands": ["^true$"]}, "stages": ["prestart"],
    }  # fmt: skip
    path.write_text(json.dumps(content))
    try:
        with refused(grpc.StatusCode.INTERNAL):
            pod.create("true")
        assert daemon.leaks() == before
        path.write_text("{")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, str(path)):
            pod.create("true")
        path.write_text(json.dumps({**content, "when": {"always": False}}))
        path.chmod(0o666)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, str(path), "written by others"):
            pod.create("true")
    finally:
        path.unlink()


def test_default_mounts(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600")
    assert cri.output(container, "cat", "/run/secrets/key") == "for every container\n"
    assert cri.exec(container, "touch", "/run/secrets/x").exit_code != 0
    assert cri.exec(container, "ls", "/absent").exit_code != 0


def test_a_mount_of_the_request_comes_instead(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    own = daemon.folder / "own"
    own.mkdir()
    container = pod.shell("sleep 600", mounts=[pb.Mount(container_path="/run/secrets", host_path=str(own))])
    assert cri.output(container, "ls", "/run/secrets") == ""


def test_ulimits_and_umask(pod: Pod, cri: Cri) -> None:
    container = pod.shell("touch /made; sleep 600")
    limits = cri.output(container, "cat", "/proc/1/limits").splitlines()
    (files,) = [line.split() for line in limits if line.startswith("Max open files")]
    assert files[3:5] == ["512", "1024"]
    assert cri.output(container, "stat", "-c", "%a", "/made") == "600\n"


def test_variables(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600", envs=[pb.KeyValue(key="REPLACED", value=b"request")])
    seen = cri.output(container, "env").splitlines()
    assert "NODE_WIDE=yes" in seen
    assert "REPLACED=request" in seen
    assert "PATH=/bin" in seen  # the image's


def test_sysctls_of_pod_and_node(pods, daemon: Daemon, cri: Cri) -> None:
    config = pod_config(daemon.logs)
    config.linux.sysctls["net/ipv4/ip_unprivileged_port_start"] = "90"
    config.linux.sysctls["kernel.msgmax"] = "4096"
    config.linux.sysctls["fs.mqueue.msg_max"] = "7"
    container = pods(config).shell("sleep 600")

    def value(name: str) -> str:
        return cri.output(container, "cat", f"/proc/sys/{name}").strip()

    assert value("net/ipv4/ip_unprivileged_port_start") == "90"
    assert value("kernel/msgmax") == "4096"
    assert value("fs/mqueue/msg_max") == "7"
    assert value("kernel/shm_rmid_forced") == "1"  # the node's


def test_the_nodes_sysctls_leave_the_host_alone(pods, daemon: Daemon, cri: Cri) -> None:
    before = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    container = pods(pod_config(daemon.logs, network=pb.NODE, ipc=pb.NODE)).shell("sleep 600")
    assert cri.output(container, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == before


@pytest.mark.parametrize(
    ("name", "value", "fields"),
    [
        ("kernel.core_pattern", "|/bin/x", {}),
        ("net/ipv4/../../kernel/core_pattern", "x", {}),
        ("kernel.shmmax", "1+kernel.core_pattern=|/bin/x", {}),
        ("kernel.shmmax", "1\nkernel.core_pattern=x", {}),
        ("vm.overcommit_memory", "1", {}),
        ("kernel.hostname", "x", {}),
        ("net", "1", {}),
        ("", "1", {}),
        ("net.ipv4.ip_forward", "1", {"network": pb.NODE}),
        ("kernel.shmmax", "1", {"ipc": pb.NODE}),
        ("fs.mqueue.msg_max", "7", {"ipc": pb.NODE}),
    ],
)
def test_sysctls_that_are_not_the_pods_are_refused(daemon: Daemon, cri: Cri, name: str, value: str, fields) -> None:
    config = pod_config(daemon.logs, **fields)
    config.linux.sysctls[name] = value
    before = daemon.leaks()
    with refused(INVALID, "linux.sysctls"):
        cri.run_pod(config)
    assert daemon.leaks() == before


def test_the_time_zone(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600")
    zone = Path("/usr/share/zoneinfo/Asia/Tokyo")
    expected = (zone if zone.exists() else Path("/etc/localtime")).read_bytes()
    assert cri.exec(container, "cat", "/etc/localtime").stdout == expected


def test_the_size_of_shared_memory(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600")
    (line,) = [line for line in cri.output(container, "cat", "/proc/mounts").splitlines() if " /dev/shm " in line]
    assert "size=1024k" in line
    assert cri.exec(container, "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=2").exit_code != 0


def test_a_read_only_root_takes_them_all(pod: Pod, cri: Cri, busybox_ref: str) -> None:
    security = pb.LinuxContainerSecurityContext(readonly_rootfs=True)
    config = container_config(busybox_ref, "sleep", "600", security=security)
    container = cri.create(pod.id, config, pod.config)
    cri.start(container)
    assert cri.output(container, "cat", "/run/secrets/key") == "for every container\n"
