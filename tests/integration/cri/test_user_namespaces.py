"""Pods in user namespaces, looked at from inside real containers and from the host."""

from __future__ import annotations

import io
import os
import signal
import tarfile
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import grpc
import pytest

from deploy.demo_image import busybox_layer, image
from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import INVALID, Cri, Pod, pod_config, refused
from tests.harness.daemon import Daemon
from tests.harness.registry import Registry
from tests.harness.streams import Command, Forward

UIDS, GIDS, LENGTH = 1 << 20, 1 << 21, 65536
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
HANDLERS = ["runc", "crun"]


def mapping(first: int, length: int = LENGTH) -> pb.IDMapping:
    return pb.IDMapping(container_id=0, host_id=first, length=length)


def userns(length: int = LENGTH) -> pb.UserNamespace:
    return pb.UserNamespace(mode=pb.POD, uids=[mapping(UIDS, length)], gids=[mapping(GIDS, length)])


def mapped_config(daemon: Daemon, *, length: int = LENGTH, network=pb.POD, pid=pb.CONTAINER, sysctls=None, **security):
    """What a kubelet sends for a pod with `hostUsers: false`."""
    config = pod_config(daemon.logs, network=network, pid=pid)
    context = config.linux.security_context
    context.namespace_options.userns_options.CopyFrom(userns(length))
    context.privileged = security.get("privileged", False)
    config.linux.sysctls.update(sysctls or {})
    return config


def inside(pid=pb.CONTAINER, **fields) -> pb.LinuxContainerSecurityContext:
    """What a kubelet sends for its containers."""
    options = pb.NamespaceOption(pid=pid, userns_options=userns())
    return pb.LinuxContainerSecurityContext(namespace_options=options, **fields)


def volume(host_path: Path | str, container_path: str = "/data", *, mapped: bool = True, **fields) -> pb.Mount:
    maps = {"uidMappings": [mapping(UIDS)], "gidMappings": [mapping(GIDS)]} if mapped else {}
    return pb.Mount(host_path=str(host_path), container_path=container_path, **maps, **fields)


@pytest.fixture(params=HANDLERS)
def handler(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def mapped(pods, daemon: Daemon, handler: str) -> Pod:
    """A pod with a user namespace."""
    return pods(mapped_config(daemon), handler)


def words(text: str) -> list[str]:
    return text.split()


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_status_says_which_handlers_have_them(cri: Cri) -> None:
    status = cri.status()
    assert {one.name: one.features.user_namespaces for one in status.runtime_handlers} == dict.fromkeys(
        ("", *HANDLERS), True
    )
    assert status.features.user_namespaces_host_network


def test_root_inside_is_nobody_special_outside(mapped: Pod, cri: Cri, daemon: Daemon) -> None:
    container = mapped.shell("sleep 600", security=inside())
    assert words(cri.output(container, "cat", "/proc/self/uid_map")) == ["0", str(UIDS), str(LENGTH)]
    assert words(cri.output(container, "cat", "/proc/self/gid_map")) == ["0", str(GIDS), str(LENGTH)]
    assert cri.output(container, "id", "-u").strip() == "0"
    status = Path(f"/proc/{cri.pid(container)}/status").read_text()
    assert f"Uid:\t{UIDS}\t{UIDS}\t{UIDS}\t{UIDS}" in status
    assert f"Gid:\t{GIDS}\t{GIDS}\t{GIDS}\t{GIDS}" in status
    shown = cri.pod(mapped.id).linux.namespaces.options.userns_options
    assert shown == userns()


def test_sessions_into_it(mapped: Pod, cri: Cri) -> None:
    """A user of the container's may open its own output by name; a terminal is its own; ports are reached."""
    container = mapped.shell("exec nc -ll -p 8080 -e cat", security=inside(run_as_user=pb.Int64Value(value=1000)))
    script = "echo first >/dev/stdout; cat /dev/stdin; echo other >/dev/stderr; id -u; exit 3"
    flags = {"stdin": True, "stdout": True, "stderr": True}
    with Command(
        cri.call("Exec", container_id=container, cmd=["sh", "-c", script], **flags).url, stdin=True
    ) as command:
        command.write(b"said\n", fin=True)
        assert command.exit_code() == 3
        assert (command.output(), command.output("stderr")) == (b"first\nsaid\n1000\n", b"other\n")
    terminal = {"tty": True, "stdin": True, "stdout": True}
    script = "echo said >/dev/tty; stat -c %u $(tty)"
    with Command(
        cri.call("Exec", container_id=container, cmd=["sh", "-c", script], **terminal).url, **terminal
    ) as command:
        assert command.exit_code() == 0
        assert command.output() == b"said\r\n1000\r\n"
    with Forward(cri.call("PortForward", pod_sandbox_id=mapped.id).url) as client:
        error, data = client.pair(8080)
        client.send(data, b"through")
        client.until(data, b"through")
        assert client.received[error] == b""


def test_files_of_the_image_belong_to_its_users(mapped: Pod, cri: Cri, daemon: Daemon) -> None:
    container = mapped.shell("sleep 600", security=inside())
    paths = ["/", "/etc/passwd", "/home/web", "/home/web/hello", "/etc/resolv.conf", "/etc/hostname", "/dev/shm"]
    seen = cri.output(container, "stat", "-c", "%u:%g", *paths)
    assert words(seen) == ["0:0", "0:0", "1000:1001", "1000:1001", "0:0", "0:0", "0:0"]
    cri.output(
        container, "sh", "-c", "echo new >/new; echo more >>/home/web/hello; touch /dev/shm/x; chown 5:6 /dev/shm/x"
    )
    upper = daemon.root / "storage" / "containers" / container / "upper"
    assert owner(upper / "new") == (UIDS, GIDS)
    assert owner(upper / "home/web/hello") == (UIDS + 1000, GIDS + 1001)
    assert owner(upper) == (UIDS, GIDS)
    layers = daemon.root / "storage" / "layers"
    assert {owner(path) for path in layers.glob("*/diff/home/web/hello")} == {(1000, 1001)}, "a layer was changed"
    assert cri.output(container, "stat", "-c", "%u:%g", "/dev/shm/x").strip() == "5:6"


def test_another_user_runs_there(mapped: Pod, cri: Cri) -> None:
    who = {"run_as_user": pb.Int64Value(value=1000), "run_as_group": pb.Int64Value(value=1001)}
    container = mapped.shell("sleep 600", security=inside(**who, supplemental_groups=[7]))
    assert cri.output(container, "cat", "/home/web/hello") == "hello\n"
    assert words(cri.output(container, "id", "-G")) == ["1001", "7", "2000"]
    assert os.stat(f"/proc/{cri.pid(container)}").st_uid == UIDS + 1000


def test_the_network_belongs_to_the_namespace(pods, cri: Cri, daemon: Daemon, handler: str) -> None:
    names = {"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1"}
    pod = pods(mapped_config(daemon, sysctls=names), handler)
    admin = pb.Capability(add_capabilities=["NET_ADMIN", "NET_RAW"])
    container = pod.shell("sleep 600", security=inside(capabilities=admin))
    address = cri.pod(pod.id).network.ip
    assert address in cri.output(container, "ip", "addr", "show", "eth0")
    assert "1 packets received" in cri.output(container, "ping", "-c", "1", "-W", "5", f"{daemon.subnet}.1")
    assert "1 packets received" in cri.output(container, "ping", "-c", "1", "-W", "5", "127.0.0.1")
    cri.output(container, "ip", "link", "set", "dev", "lo", "mtu", "1400")  # its own root may change it
    assert set(words(cri.output(container, "ls", "/sys/class/net"))) >= {"eth0", "lo"}
    assert cri.output(container, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start").strip() == "80"
    assert cri.output(container, "cat", "/proc/sys/kernel/shm_rmid_forced").strip() == "1"
    assert cri.output(container, "hostname").strip() == pod.config.hostname


@pytest.mark.parametrize("pid", [pb.CONTAINER, pb.POD])
def test_containers_of_a_pod_share_it(pods, cri: Cri, daemon: Daemon, handler: str, pid: int) -> None:
    pod = pods(mapped_config(daemon, pid=pid), handler)
    one, two = (pod.shell("sleep 644", security=inside(pid)) for _ in range(2))
    pids = [cri.pid(one), cri.pid(two)]
    for kind in ("user", "net", "ipc", "uts"):
        namespaces = {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in pids}
        assert len(namespaces) == 1, kind
        assert namespaces != {os.readlink(f"/proc/self/ns/{kind}")}, kind
    assert len({os.readlink(f"/proc/{pid}/ns/pid") for pid in pids}) == (1 if pid == pb.POD else 2)
    assert cri.output(one, "ps", "-o", "args").count("sleep 644") == (2 if pid == pb.POD else 1)


def test_a_mapped_volume_is_shared_as_if_there_were_no_mapping(mapped: Pod, cri: Cri, tmp_path: Path) -> None:
    data, secret, later = tmp_path / "data", tmp_path / "secret", tmp_path / "later"
    for folder in (data, later):
        folder.mkdir(mode=0o700)
    (data / "mine").write_text("root's")
    os.chown(data / "mine", 0, 0)
    os.chown(data, 0, 0)
    secret.write_text("one file")
    secret.chmod(0o600)
    container = mapped.shell(
        "sleep 600", security=inside(),
        mounts=[volume(data), volume(secret, "/secret", readonly=True), volume(later / "not-yet", "/made"),
                volume(data, "/plain", mapped=False)],
    )  # fmt: skip
    assert cri.output(container, "cat", "/data/mine") == "root's"
    assert cri.output(container, "cat", "/secret") == "one file"
    assert words(cri.output(container, "stat", "-c", "%u:%g", "/data", "/data/mine", "/secret", "/made", "/plain")) == [
        *["0:0"] * 4,
        "65534:65534",
    ]
    cri.output(container, "sh", "-c", "echo theirs >/data/theirs; chown 1000:1001 /data/theirs; echo x >/made/x")
    assert owner(data / "theirs") == (1000, 1001)
    assert owner(later / "not-yet" / "x") == (0, 0)
    assert cri.exec(container, "sh", "-c", "echo x >/secret").exit_code != 0
    assert cri.exec(container, "cat", "/plain/mine").exit_code != 0, "it is the host's root's, and not mapped"
    cri.remove(container)
    assert sorted(path.name for path in data.iterdir()) == ["mine", "theirs"], "a removal took what is in the volume"


def test_a_volume_may_have_a_mapping_of_its_own(mapped: Pod, cri: Cri, tmp_path: Path) -> None:
    """Files of 500 on disk are the pod's user 7 here."""
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 500, 501)
    odd = volume(data, mapped=False)
    odd.uidMappings.add(container_id=500, host_id=UIDS + 7, length=1)
    odd.gidMappings.add(container_id=501, host_id=GIDS + 8, length=1)
    container = mapped.shell("sleep 600", security=inside(), mounts=[odd])
    assert cri.output(container, "stat", "-c", "%u:%g", "/data").strip() == "7:8"


def test_mounts_of_the_host_appear_in_a_volume(mapped: Pod, cri: Cri, tmp_path: Path) -> None:
    host.run("mount", "-t", "tmpfs", "-o", "mode=755", "test", str(tmp_path))
    try:
        host.run("mount", "--make-shared", str(tmp_path))
        (tmp_path / "later").mkdir()
        receiving = volume(tmp_path, propagation=pb.PROPAGATION_HOST_TO_CONTAINER)
        container = mapped.shell("sleep 600", security=inside(), mounts=[receiving])
        host.run("mount", "-t", "tmpfs", "-o", "mode=755", "test", str(tmp_path / "later"))
        try:
            (tmp_path / "later" / "file").write_text("from the host")
            assert cri.output(container, "cat", "/data/later/file") == "from the host"
            cri.remove(container)
            assert (tmp_path / "later" / "file").exists()
        finally:
            host.run("umount", str(tmp_path / "later"))
    finally:
        host.run("umount", str(tmp_path))


def test_a_terminal_and_statistics(mapped: Pod, cri: Cri) -> None:
    container = mapped.shell("tty; stat -c %u:%g $(tty); sleep 600", security=inside(), tty=True)
    host.until("the terminal's lines are there", lambda: len(mapped.log(container)) >= 2)
    assert [text.strip() for _, text in mapped.log(container)] == ["/dev/pts/0", "0:5"]
    stats = cri.call("PodSandboxStats", pod_sandbox_id=mapped.id).stats
    assert stats.linux.network.default_interface.name == "eth0"


def test_an_image_is_a_volume_there_too(mapped: Pod, cri: Cri, busybox_ref: str) -> None:
    mount = pb.Mount(image=pb.ImageSpec(image=busybox_ref), container_path="/image", readonly=True)
    container = mapped.shell("sleep 600", security=inside(), mounts=[mount])
    seen = cri.output(container, "stat", "-c", "%u:%g", "/image/etc/passwd", "/image/home/web/hello")
    assert words(seen) == ["0:0", "1000:1001"]


def test_volumes_that_the_image_declares_belong_to_root(mapped: Pod, cri: Cri, registry: Registry) -> None:
    made = image([busybox_layer().tar()], {"Cmd": ["sleep", "600"], "Volumes": {"/var/deep/data": {}}})
    registry.push(made, "volumes-mapped", "latest")
    reference = f"{registry.address}/volumes-mapped:latest"
    cri.pull(reference)
    mapped.image = reference
    container = mapped.shell("sleep 600", security=inside(readonly_rootfs=True))
    cri.output(container, "touch", "/var/deep/data/new")
    assert words(cri.output(container, "stat", "-c", "%u:%g", "/var/deep", "/var/deep/data")) == ["0:0", "0:0"]
    assert cri.exec(container, "touch", "/new").exit_code != 0


def test_what_its_layers_only_imply_is_theirs_too(mapped: Pod, cri: Cri, registry: Registry) -> None:
    base = busybox_layer()
    base.folder("data", mode=0o2750, uid=12, gid=34)
    upper = io.BytesIO()
    with tarfile.open(fileobj=upper, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("data/file"))
    registry.push(image([base.tar(), upper.getvalue()], {"Env": ["PATH=/bin"]}), "implied-mapped", "v1")
    mapped.image = f"{registry.address}/implied-mapped:v1"
    cri.pull(mapped.image)
    container = mapped.shell("sleep 600", security=inside())
    assert words(cri.output(container, "stat", "-c", "%a:%u:%g", "/data", "/data/file")) == ["2750:12:34", "644:0:0"]


def test_it_runs_privileged_without_being_so_on_the_host(pods, cri: Cri, daemon: Daemon, handler: str) -> None:
    pod = pods(mapped_config(daemon, privileged=True), handler)
    container = pod.shell("sleep 600", security=inside(privileged=True))
    cri.output(container, "sh", "-c", "mkdir /m && mount -t tmpfs tmpfs /m && ip link set lo mtu 1300")
    assert cri.exec(container, "sh", "-c", "echo 1 >/proc/sys/kernel/panic").exit_code != 0
    assert os.stat(f"/proc/{cri.pid(container)}").st_uid == UIDS


def test_it_goes_with_the_hosts_network(pods, cri: Cri, daemon: Daemon, handler: str) -> None:
    pod = pods(mapped_config(daemon, network=pb.NODE), handler)
    container = pod.shell("sleep 600", security=inside())
    assert os.readlink(f"/proc/{cri.pid(container)}/ns/net") == os.readlink("/proc/self/ns/net")
    assert words(cri.output(container, "cat", "/proc/self/uid_map")) == ["0", str(UIDS), str(LENGTH)]
    assert daemon.bridge in cri.output(container, "ls", "/sys/class/net") or "lo" in cri.output(container, "ip", "link")
    assert cri.exec(container, "ip", "link", "set", "lo", "mtu", "1300").exit_code != 0
    assert cri.exec(container, "sh", "-c", "echo x >/sys/kernel/uevent_helper").exit_code != 0


def test_a_small_namespace_has_no_group_of_terminals(pods, cri: Cri, daemon: Daemon, handler: str) -> None:
    pod = pods(mapped_config(daemon, length=3, pid=pb.POD), handler)
    options = pb.NamespaceOption(pid=pb.POD)
    small = pb.LinuxContainerSecurityContext(namespace_options=options)
    container = pod.shell("sleep 600", security=small)
    assert words(cri.output(container, "cat", "/proc/self/uid_map")) == ["0", str(UIDS), "3"]
    small.run_as_user.value = 3
    with refused(INVALID, "run_as_user", "3"):
        pod.create("true", security=small)


def test_what_cannot_be_is_refused(mapped: Pod, daemon: Daemon, cri: Cri, tmp_path: Path) -> None:
    with refused(INVALID, "mounts[0].propagation"):
        mapped.create("true", security=inside(), mounts=[volume("/tmp", propagation=pb.PROPAGATION_BIDIRECTIONAL)])
    with refused(PRECONDITION, "mounts[1].uidMappings", "/proc"):
        mapped.create("true", security=inside(), mounts=[volume(tmp_path, "/t"), volume("/proc", "/host-proc")])
    with refused(INVALID, "userns_options"):
        other = inside()
        other.namespace_options.userns_options.uids[0].host_id += 1
        mapped.create("true", security=other)
    assert not cri.list_containers(pod_sandbox_id=mapped.id)
    assert not list((daemon.run / "runtime" / "mounts").glob("*")), "a refusal left an id-mapped mount"


@pytest.mark.parametrize("field", ["pid", "ipc"])
def test_the_hosts_other_namespaces_are_refused(daemon: Daemon, cri: Cri, field: str) -> None:
    config = mapped_config(daemon)
    setattr(config.linux.security_context.namespace_options, field, pb.NODE)
    with refused(INVALID, f"namespace_options.{field}"):
        cri.run_pod(config)


def test_they_outlive_every_process_of_crisp(mapped: Pod, daemon: Daemon, cri: Cri, tmp_path: Path) -> None:
    before = mapped.shell("sleep 600", security=inside(), mounts=[volume(tmp_path)])
    pid, born = cri.pid(before), host.start_time(cri.pid(before))
    daemon.kill_all()
    daemon.start()
    assert (cri.pid(before), host.start_time(pid)) == (pid, born)
    assert cri.pod(mapped.id).state == pb.SANDBOX_READY
    assert cri.output(before, "sh", "-c", "touch /data/after; id -u").strip() == "0"
    after = mapped.shell("sleep 600", security=inside(), mounts=[volume(tmp_path)])
    assert os.readlink(f"/proc/{cri.pid(after)}/ns/user") == os.readlink(f"/proc/{pid}/ns/user")
    assert owner(tmp_path / "after") == (0, 0)
    mapped.remove()
    assert (tmp_path / "after").exists()
    assert not [point for point in host.mounts(daemon.run / "runtime") if mapped.id in point or before in point]


@pytest.mark.parametrize("name", ["storage", "network", "runtime"])
@pytest.mark.parametrize("after", [0.0, 0.05, 0.15])
def test_a_worker_dies_while_they_are_made(
    daemon: Daemon, cri: Cri, busybox_ref: str, tmp_path: Path, name: str, after: float
) -> None:
    def make(config: pb.PodSandboxConfig) -> tuple[str, str]:
        pod = Pod(cri, daemon.logs, busybox_ref, config)
        return pod.id, pod.shell("sleep 600", security=inside(), mounts=[volume(tmp_path)])

    (tmp_path / "kept").touch()
    victim = daemon.workers()[name]
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(make, mapped_config(daemon)) for _ in range(3)]
        wait(futures, after)
        os.kill(victim, signal.SIGKILL)
        made = [future.result(60) for future in futures]
    for sandbox, container in made:
        assert cri.output(container, "stat", "-c", "%u:%g", "/", "/data").split() == ["0:0"] * 2
        assert cri.pod(sandbox).network.ip in cri.output(container, "ip", "addr")
        cri.remove_pod(sandbox)
    assert (tmp_path / "kept").exists()
    assert daemon.leaks() == []


@pytest.mark.parametrize(
    ("field", "uids"),
    [
        ("uids: are 0", []),
        ("uids: are 2", [mapping(UIDS), pb.IDMapping(container_id=1, host_id=UIDS, length=5)]),
        ("uids[0].length", [mapping(UIDS, 0)]),
        ("uids[0].host_id", [mapping(0)]),
        ("uids[0].host_id", [mapping(0xFFFFFFFF)]),
        ("uids[0].container_id", [pb.IDMapping(container_id=1, host_id=UIDS, length=5)]),
    ],
)
def test_mappings_that_cannot_be(daemon: Daemon, cri: Cri, field: str, uids: list[pb.IDMapping]) -> None:
    config = mapped_config(daemon)
    options = config.linux.security_context.namespace_options.userns_options
    del options.uids[:]
    options.uids.extend(uids)
    with refused(INVALID, f"userns_options.{field}"):
        cri.run_pod(config)
