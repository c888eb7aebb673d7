"""Namespaces, users, mounts and limits as a container sees them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import Cri, Pod, pod_config
from tests.harness.daemon import DRIVER, Daemon


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def security(**fields) -> pb.LinuxContainerSecurityContext:
    return pb.LinuxContainerSecurityContext(**fields)


def value(number: int) -> pb.Int64Value:
    return pb.Int64Value(value=number)


def test_containers_share_network_ipc_and_uts_and_have_their_own_pids(pod: Pod, cri: Cri) -> None:
    one, two = (cri.pid(pod.shell("sleep 600")) for _ in range(2))
    for kind in ("net", "ipc", "uts"):
        assert namespace(one, kind) == namespace(two, kind) != namespace("self", kind), kind
    for kind in ("pid", "mnt"):
        assert len({namespace(one, kind), namespace(two, kind), namespace("self", kind)}) == 3, kind


def test_a_shared_pid_namespace_has_a_process_that_reaps(pods, cri: Cri, daemon: Daemon) -> None:
    pod = pods(pod_config(daemon.logs, "sharedpid", pid=pb.POD))
    options = pb.NamespaceOption(pid=pb.POD)
    one = pod.shell("sleep 611", security=security(namespace_options=options))
    two = pod.shell("sleep 622", security=security(namespace_options=options))
    assert namespace(cri.pid(one), "pid") == namespace(cri.pid(two), "pid") != namespace("self", "pid")
    seen = cri.output(one, "ps", "-o", "pid,args")
    assert "sleep 611" in seen
    assert "sleep 622" in seen
    assert cri.output(one, "cat", "/proc/1/comm").strip() not in ("sh", "sleep")
    cri.stop(two, 0)
    assert cri.container(one).state == pb.CONTAINER_RUNNING


def test_the_hosts_pids_and_ipc_can_be_asked_for(pods, cri: Cri, daemon: Daemon) -> None:
    pod = pods(pod_config(daemon.logs, "hostpid", pid=pb.NODE, ipc=pb.NODE))
    options = pb.NamespaceOption(pid=pb.NODE, ipc=pb.NODE)
    pid = cri.pid(pod.shell("sleep 600", security=security(namespace_options=options)))
    assert namespace(pid, "pid") == namespace("self", "pid")
    assert namespace(pid, "ipc") == namespace("self", "ipc")


def test_a_container_can_join_anothers_pids(pod: Pod, cri: Cri) -> None:
    target = pod.shell("sleep 633")
    options = pb.NamespaceOption(pid=pb.TARGET, target_id=target)
    guest = pod.shell("sleep 600", security=security(namespace_options=options))
    assert namespace(cri.pid(guest), "pid") == namespace(cri.pid(target), "pid")
    assert "sleep 633" in cri.output(guest, "ps", "-o", "args")


def test_shared_memory_is_the_pods(pod: Pod, cri: Cri) -> None:
    one, two = pod.shell("sleep 600"), pod.shell("sleep 600")
    cri.output(one, "sh", "-c", "echo shared > /dev/shm/word")
    assert cri.output(two, "cat", "/dev/shm/word") == "shared\n"
    assert "tmpfs" in cri.output(two, "grep", " /dev/shm ", "/proc/mounts")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "uid=0(root) gid=0(root)"),
        ({"run_as_user": value(1000)}, "uid=1000(web) gid=1001(web) groups=1001(web),2000(extra)"),
        ({"run_as_username": "web"}, "uid=1000(web) gid=1001(web) groups=1001(web),2000(extra)"),
        ({"run_as_user": value(1234), "run_as_group": value(55)}, "uid=1234 gid=55"),
        ({"run_as_username": "web", "supplemental_groups": [7]},
         "uid=1000(web) gid=1001(web) groups=7,1001(web),2000(extra)"),
        ({"run_as_username": "web", "supplemental_groups": [7], "supplemental_groups_policy": pb.Strict},
         "uid=1000(web) gid=1001(web) groups=7,1001(web)"),
    ],
    ids=["root", "id", "name", "unknown-id", "merged-groups", "strict-groups"],
)  # fmt: skip
def test_user_and_groups(pod: Pod, cri: Cri, fields: dict[str, object], said: str) -> None:
    container = pod.shell("id; sleep 600", security=security(**fields))
    words = parse_id(cri.output(container, "id"))
    wanted = parse_id(said)
    assert words["uid"] == wanted["uid"]
    assert words["gid"] == wanted["gid"]
    assert words["groups"] | words["gid"] == wanted["groups"] | wanted["gid"]
    user = cri.container(container).user.linux
    assert {str(user.uid)} == {entry.split("(")[0] for entry in wanted["uid"]}
    assert {str(user.gid)} == {entry.split("(")[0] for entry in wanted["gid"]}


def parse_id(line: str) -> dict[str, set[str]]:
    """The parts of what id(1) prints."""
    parts = dict(word.split("=", 1) for word in line.split())
    return {key: set(filter(None, parts.get(key, "").split(","))) for key in ("uid", "gid", "groups")}


def test_mounts_are_there_and_read_only_ones_cannot_be_written(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    folder = daemon.folder / "volume"
    folder.mkdir(exist_ok=True)
    (folder / "word").write_text("from the host\n")
    single = folder / "single"
    single.write_text("one file\n")
    container = pod.shell(
        "sleep 600",
        mounts=[
            pb.Mount(container_path="/data", host_path=str(folder)),
            pb.Mount(container_path="/fixed", host_path=str(folder), readonly=True),
            pb.Mount(container_path="/etc/deep/single", host_path=str(single)),
        ],
    )
    assert cri.output(container, "cat", "/data/word", "/etc/deep/single") == "from the host\none file\n"
    cri.output(container, "sh", "-c", "echo back > /data/answer")
    assert (folder / "answer").read_text() == "back\n"
    assert cri.exec(container, "touch", "/fixed/no").exit_code != 0
    mounts = {mount.container_path: mount for mount in cri.container(container).mounts}
    assert mounts["/data"].host_path == str(folder)
    assert mounts["/fixed"].readonly


def test_a_read_only_root_can_only_be_read(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600", security=security(readonly_rootfs=True))
    assert cri.exec(container, "touch", "/no").exit_code != 0
    other = pod.shell("sleep 600")
    cri.output(other, "touch", "/yes")


def test_the_kernels_dangerous_files_are_masked(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600")
    masked = [path for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list") if Path(path).exists()]
    assert [cri.output(container, "cat", path) for path in masked] == [""] * len(masked)
    if Path("/sys/firmware").exists():
        assert cri.output(container, "ls", "/sys/firmware") == ""
    assert cri.exec(container, "sh", "-c", "echo x > /proc/sys/kernel/domainname").exit_code != 0
    assert cri.exec(container, "sh", "-c", "echo b > /proc/sysrq-trigger").exit_code != 0


def test_capabilities_are_the_default_ones_plus_and_minus(pod: Pod, cri: Cri) -> None:
    def effective(**fields) -> int:
        said = cri.output(pod.shell("sleep 600", security=security(**fields)), "grep", "CapEff", "/proc/1/status")
        return int(said.split()[1], 16)

    default, chown, admin = effective(), 1 << 0, 1 << 12
    assert default & chown
    assert not default & admin
    changed = effective(capabilities=pb.Capability(add_capabilities=["NET_ADMIN"], drop_capabilities=["CHOWN"]))
    assert changed == default & ~chown | admin
    assert effective(capabilities=pb.Capability(drop_capabilities=["ALL"])) == 0


def test_a_privileged_container_has_what_the_host_has(pods, cri: Cri, daemon: Daemon) -> None:
    config = pod_config(daemon.logs, "privileged")
    config.linux.security_context.privileged = True
    pod = pods(config)
    container = pod.shell("sleep 600", security=security(privileged=True))
    mine = Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0]
    assert cri.output(container, "grep", "CapEff", "/proc/1/status").split()[1] == mine
    cri.output(container, "mount", "-t", "tmpfs", "none", "/tmp")
    assert cri.exec(pod.shell("sleep 600"), "mount", "-t", "tmpfs", "none", "/tmp").exit_code != 0
    devices = {path.name for path in Path("/dev").iterdir() if path.is_char_device()}
    assert devices - {"console"} <= set(cri.output(container, "ls", "/dev").split())


def test_limits_reach_the_containers_cgroup(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    limits = pb.LinuxContainerResources(
        memory_limit_in_bytes=64 << 20, cpu_period=100_000, cpu_quota=25_000, cpu_shares=512, oom_score_adj=321
    )
    pid = cri.pid(pod.run("sleep", "600", resources=limits))
    paths = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    if "memory" in paths:
        memory, cpu = Path("/sys/fs/cgroup/memory") / paths["memory"][1:], Path("/sys/fs/cgroup/cpu") / paths["cpu"][1:]
        assert (memory / "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
        assert (cpu / "cpu.cfs_quota_us").read_text() == "25000\n"
        assert (cpu / "cpu.shares").read_text() == "512\n"
    else:
        group = Path("/sys/fs/cgroup") / paths[""][1:]
        assert (group / "memory.max").read_text() == f"{64 << 20}\n"
        assert (group / "cpu.max").read_text() == "25000 100000\n"
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "321\n"
    assert all(
        path.startswith(daemon.cgroup_parent) for kind, path in paths.items() if kind in ("memory", "cpu", "pids")
    )


def test_a_cgroup_parent_of_the_request_is_used(pods, cri: Cri, daemon: Daemon) -> None:
    config = pod_config(daemon.logs, "parent")
    parent = f"{daemon.cgroup_parent}/burstable/pod1"
    config.linux.cgroup_parent = parent
    if DRIVER == "systemd":
        config.linux.cgroup_parent = f"{daemon.name}-burstable-pod1.slice"
        parent = f"{daemon.cgroup_parent}/{daemon.name}-burstable.slice/{daemon.name}-burstable-pod1.slice"
    pid = cri.pid(pods(config).shell("sleep 600"))
    paths = [line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    assert any(path.startswith(f"{parent}/") for path in paths)
