"""Fields of CRI requests that attacks and mishaps came through, at other runtimes or here, with the number of each in
the list of what crisp must stand: each is refused with the right code and by the field's name, and leaves nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import INVALID, NOT_FOUND, Cri, Pod, container_config, outcome, pod_config, refused
from tests.harness.daemon import Daemon, serving
from tests.integration.conftest import insecure

FAILED = grpc.StatusCode.FAILED_PRECONDITION
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
SECURITY = "config.linux.security_context"
Change = Callable[[object], object]


@pytest.fixture(scope="module")
def daemon(system_users: None, registry) -> Iterator[Daemon]:
    """One that takes cgroup parents below its own alone."""
    mine = Daemon(insecure(registry.address))
    with serving(mine, runtime={"cgroup_roots": [mine.cgroup_parent]}):
        yield mine


def holdings(daemon: Daemon) -> tuple[object, ...]:
    """What is listed, what is on the host, and what lies in the folders of pods' logs."""
    return (
        sorted(item.id for item in daemon.cri.list_pods()),
        sorted(item.id for item in daemon.cri.list_containers()),
        sorted(leak for leak in daemon.leaks() if not leak.startswith("process")),
        sorted(str(path) for path in host.cgroups(daemon.cgroup_parent)),
        sorted(str(path) for path in daemon.logs.rglob("*") if not path.is_dir()),
    )


@contextmanager
def nothing_left(daemon: Daemon) -> Iterator[None]:
    """The body leaves nothing behind."""
    before = holdings(daemon)
    yield
    assert holdings(daemon) == before


@dataclass(frozen=True)
class Case:
    """One request that is refused, with the words that the message must have."""

    row: int
    topic: str
    words: tuple[str, ...]
    change: Change
    handler: str = ""
    code: grpc.StatusCode = INVALID


def case(row: int, topic: str, words: str | tuple[str, ...], change: Change, **more) -> Case:
    return Case(row, topic, (words,) if isinstance(words, str) else words, change, **more)


def named(one: Case) -> str:
    return f"{one.row}-{one.topic}"


def sysctl(key: str, value: str = "1", **namespaces: int) -> Change:
    def change(config) -> None:
        config.linux.sysctls[key] = value
        for name, mode in namespaces.items():
            setattr(config.linux.security_context.namespace_options, name, mode)
        if "network" in namespaces:
            config.hostname = ""

    return change


def put(path: str, value: object) -> Change:
    """Set, extend or update the field at a dotted path."""

    def change(config) -> None:
        *above, last = path.split(".")
        for name in above:
            config = getattr(config, name)
        if isinstance(value, dict):
            getattr(config, last).update(value)
        elif isinstance(value, list):
            getattr(config, last).extend(value)
        elif isinstance(value, pb.Int64Value):
            getattr(config, last).CopyFrom(value)
        else:
            setattr(config, last, value)

    return change


def maps(*ranges: tuple[int, int, int], mode: int = pb.POD) -> Change:
    """A user namespace of these ranges, as (inside, outside, length)."""

    def change(config) -> None:
        given = [pb.IDMapping(container_id=inner, host_id=outer, length=length) for inner, outer, length in ranges]
        wanted = pb.UserNamespace(mode=mode, uids=given, gids=given)
        config.linux.security_context.namespace_options.userns_options.CopyFrom(wanted)

    return change


def mount(**fields) -> Change:
    return put("mounts", [pb.Mount(**fields)])


def device(**fields) -> Change:
    return put("devices", [pb.Device(**{"container_path": "/dev/x", "permissions": "rwm", **fields})])


def localhost(ref: str) -> pb.SecurityProfile:
    return pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref=ref)


def profile(kind: str, ref: str) -> Change:
    return lambda config: getattr(config.linux.security_context, kind).CopyFrom(localhost(ref))


PARENT = "config.linux.cgroup_parent"
USERNS = f"{SECURITY}.namespace_options.userns_options"
PODS = [
    case(59, "sysctl-of-the-host", "config.linux.sysctls[kernel.core_pattern]", sysctl("kernel.core_pattern", "|/x")),
    case(59, "sysctl-path", "config.linux.sysctls[", sysctl("net/ipv4/../../kernel/core_pattern")),
    case(59, "sysctl-dots", "config.linux.sysctls[", sysctl("net.ipv4.../../kernel.core_pattern")),
    case(59, "sysctl-second-in-value", "config.linux.sysctls[kernel.shm_rmid_forced]",
         sysctl("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x")),
    case(59, "sysctl-newline-in-value", "config.linux.sysctls[net.ipv4.ip_forward]",
         sysctl("net.ipv4.ip_forward", "1\nkernel.core_pattern=|/x")),
    case(59, "sysctl-newline-in-key", "config.linux.sysctls[", sysctl("net.ipv4.ip_forward\n")),
    case(60, "net-sysctl-on-the-hosts-network", ("config.linux.sysctls[net.ipv4.ip_forward]", "host"),
         sysctl("net.ipv4.ip_forward", network=pb.NODE)),
    case(60, "ipc-sysctl-in-the-hosts-ipc", ("config.linux.sysctls[kernel.shmmax]", "host"),
         sysctl("kernel.shmmax", ipc=pb.NODE)),
    case(60, "mqueue-sysctl-in-the-hosts-ipc", ("config.linux.sysctls[fs.mqueue.msg_max]", "host"),
         sysctl("fs.mqueue.msg_max", ipc=pb.NODE)),
    *(case(62, topic, "linux.cgroup_parent", put("linux.cgroup_parent", value)) for topic, value in (
        ("cgroup-root", "/"), ("cgroup-roots", "///"), ("cgroup-above", "../.."), ("cgroup-up", "/a.slice/../b.slice"),
        ("cgroup-4K", "/" + "a/" * 2500), ("cgroup-long-name", "/" + "a" * 300), ("cgroup-newline", "/a\nb"),
        ("cgroup-NUL", "/a\0b"), ("cgroup-dot", "/./."),
        ("cgroup-of-a-container", f"/x/crisp-{'c' * 64}/y"), ("cgroup-elsewhere", "/elsewhere/pod1.slice"))),
    case(63, "unified-key-path", "config.linux.resources.unified",
         put("linux.resources.unified", {"../cgroup.procs": "1"})),
    case(64, "log-directory-above", "config.log_directory", put("log_directory", "/var/log/../../etc/cron.d")),
    case(64, "log-directory-relative", "config.log_directory", put("log_directory", "logs")),
    case(64, "log-directory-4K", "config.log_directory", put("log_directory", "/" + "a" * 4097)),
    case(65, "hostname-newline", "config.hostname", put("hostname", "a\nb")),
    case(65, "hostname-NUL", "config.hostname", put("hostname", "a\0b")),
    case(65, "hostname-colon", "config.hostname", put("hostname", "a:b")),
    case(65, "dns-server-newline", "config.dns_config.servers[1]",
         put("dns_config.servers", ["1.1.1.1", "1.1.1.1\nnameserver 6.6.6.6"])),
    case(65, "dns-search-newline", "config.dns_config.searches[0]", put("dns_config.searches", ["a\nb"])),
    case(65, "dns-option-NUL", "config.dns_config.options[0]", put("dns_config.options", ["ndots:5\0"])),
    case(66, "pods-user-negative", f"{SECURITY}.run_as_user",
         put("linux.security_context.run_as_user", pb.Int64Value(value=-1))),
    case(66, "pods-group-without-user", f"{SECURITY}.run_as_group",
         put("linux.security_context.run_as_group", pb.Int64Value(value=1))),
    case(73, "pods-seccomp-above", f"{SECURITY}.seccomp.localhost_ref", profile("seccomp", "../../etc/x")),
    *(case(75, f"{field}-{topic}", f"config.metadata.{field}", put(f"metadata.{field}", value))
      for field in ("name", "namespace", "uid") for topic, value in (
        ("slash", "a/b"), ("above", ".."), ("NUL", "a\0b"), ("newline", "a\nb"), ("empty", ""), ("long", "a" * 254))),
    case(75, "no-metadata", "config.metadata", lambda config: config.ClearField("metadata")),
    case(76, "annotations-of-16-MiB", "config.annotations", put("annotations", {"big": "x" * (16 << 20)})),
    case(76, "a-million-labels", "config.labels", lambda config: config.labels.update(
        (f"label-{number}", "x") for number in range(1_000_000))),
    case(77, "overhead-negative", "config.linux.overhead.memory_limit_in_bytes",
         put("linux.overhead.memory_limit_in_bytes", -1)),
    case(77, "pods-cpus-that-are-not-there", "linux.resources.cpuset_cpus",
         put("linux.resources.cpuset_cpus", "0-60000")),
    case(77, "pods-unified-key-on-v1", "linux.resources.unified", put("linux.resources.unified", {"memory.high": "9"}))
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists()
    else case(77, "pods-period", "config.linux.resources.cpu_period", put("linux.resources.cpu_period", -1)),
    case(78, "no-maps", (f"{USERNS}.uids", "exactly one"), maps()),
    case(78, "overlapping-maps", (f"{USERNS}.uids", "exactly one"), maps((0, 1 << 20, 65536), (100, 1 << 20, 65536))),
    case(78, "empty-map", f"{USERNS}.uids[0].length", maps((0, 1 << 20, 0))),
    case(78, "hosts-root", (f"{USERNS}.uids[0].host_id", "root"), maps((0, 0, 65536))),
    case(78, "beyond-the-last-id", f"{USERNS}.uids[0].host_id", maps((0, (1 << 32) - 2, 65536))),
    case(78, "unknown-mode", f"{USERNS}.mode", maps((0, 1 << 20, 65536), mode=7)),
    case(78, "maps-of-the-host", f"{USERNS}.uids", maps((0, 1 << 20, 65536), mode=pb.NODE)),
    case(81, "handler-path", ("runtime_handler", "not configured"), lambda config: None, handler="../../bin/sh"),
    case(81, "handler-newline", ("runtime_handler", "not configured"), lambda config: None, handler="runc\n"),
    case(81, "handler-of-64-KiB", ("runtime_handler", "not configured"), lambda config: None, handler="x" * 65536),
]  # fmt: skip


@pytest.mark.parametrize("one", PODS, ids=named)
def test_a_pod_is_refused(daemon: Daemon, cri: Cri, one: Case) -> None:
    config = pod_config(daemon.logs)
    one.change(config)
    with nothing_left(daemon), refused(one.code, *one.words):
        cri.run_pod(config, one.handler)


RESOURCES = "config.linux.resources"
CAPABILITIES = "linux.security_context.capabilities"
TOO_MUCH = (1 << 63) - 1
CONTAINERS = [
    *(case(63, topic, "linux.resources.unified", put("linux.resources.unified", {key: value}))
      for topic, key, value in (
        ("unified-path", "../cgroup.procs", "1"), ("unified-newline-in-key", "memory.max\n", "1"),
        ("unified-newline-in-value", "memory.max", "1\n2"), ("unified-unknown-controller", "frobnicate.max", "1"),
        ("unified-core-file", "cgroup.procs", "1"), ("unified-slash", "memory/x.max", "1"),
        ("unified-empty", "", "1"))),
    *(case(63, f"hugepages-{topic}", f"{RESOURCES}.hugepage_limits[0].page_size",
           put("linux.resources.hugepage_limits", [pb.HugepageLimit(page_size=size, limit=1)]))
      for topic, size in (("slash", "2MB/../../x"), ("newline", "2MB\n"), ("none", ""), ("word", "huge"))),
    *(case(64, f"log-{topic}", "log_path", put("log_path", value)) for topic, value in (
        ("above", "../../etc/cron.d/x"), ("absolute", "/etc/cron.d/x"), ("4K", "a/" * 2100 + "x"), ("NUL", "a\0b"),
        ("newline", "a\nb"), ("folder", "a/"), ("long-name", "a" * 300))),
    *(case(65, f"home-{topic}", ("config.envs[0].value", "HOME"),
           put("envs", [pb.KeyValue(key="HOME", value=value)]))
      for topic, value in (("newline", b"/root\nevil:x:0:0::/:/bin/sh"), ("colon", b"/root:/bin/sh"))),
    case(65, "env-NUL", "config.envs[0].value", put("envs", [pb.KeyValue(key="A", value=b"a\0b")])),
    case(65, "env-name", "config.envs[0].key", put("envs", [pb.KeyValue(key="A=B", value=b"a")])),
    *(case(65, f"username-{topic}", f"{SECURITY}.run_as_username",
           put("linux.security_context.run_as_username", value))
      for topic, value in (("newline", "web\nroot"), ("colon", "web:0"), ("NUL", "web\0"), ("slash", "../web"))),
    *(case(66, f"user-{topic}", f"{SECURITY}.run_as_user",
           put("linux.security_context.run_as_user", pb.Int64Value(value=value)))
      for topic, value in (("negative", -1), ("2^31", 1 << 31), ("2^63", TOO_MUCH))),
    case(66, "group-without-user", f"{SECURITY}.run_as_group",
         put("linux.security_context.run_as_group", pb.Int64Value(value=5))),
    case(66, "65537-groups", f"{SECURITY}.supplemental_groups",
         put("linux.security_context.supplemental_groups", list(range(65537)))),
    case(66, "group-negative", f"{SECURITY}.supplemental_groups[1]",
         put("linux.security_context.supplemental_groups", [1, -1])),
    case(66, "user-name-of-many-digits", "run_as_username",
         put("linux.security_context.run_as_username", "99999999999999999999")),
    case(67, "unknown-policy", f"{SECURITY}.supplemental_groups_policy",
         put("linux.security_context.supplemental_groups_policy", 7)),
    *(case(68, f"capability-{topic}", f"{SECURITY}.capabilities.{which}[0]", put(f"{CAPABILITIES}.{which}", [name]))
      for which in ("add_capabilities", "drop_capabilities")
      for topic, name in (("unknown", "CAP_FOO"), ("empty", ""), ("newline", "CHOWN\n"), ("twice", "CAP_CAP_CHOWN"))),
    *(case(69, f"source-{topic}", "mounts[0].host_path", mount(host_path=path, container_path="/x"))
      for topic, path in (("relative", "etc"), ("above", "/tmp/../etc"), ("empty", ""), ("NUL", "/a\0b"),
                          ("newline", "/a\nb"), ("through-a-file", "/etc/passwd/x"))),
    *(case(69, f"place-{topic}", "mounts[0].container_path", mount(host_path="/tmp", container_path=path))
      for topic, path in (("root", "/"), ("roots", "//./"), ("proc", "/proc"), ("in-proc", "/proc/sys/kernel"),
                          ("proc-by-dots", "/./proc//self"), ("above", "/dev/../etc"), ("relative", "x"),
                          ("empty", ""), ("NUL", "/a\0b"))),
    case(70, "read-only-below-without-read-only", "mounts[0].recursive_read_only",
         mount(host_path="/tmp", container_path="/x", recursive_read_only=True)),
    case(70, "read-only-below-with-propagation", "mounts[0].recursive_read_only",
         mount(host_path="/tmp", container_path="/x", recursive_read_only=True, readonly=True,
               propagation=pb.PROPAGATION_HOST_TO_CONTAINER)),
    case(70, "ten-thousand-mounts", "config.mounts", put("mounts", [
        pb.Mount(host_path="/tmp", container_path=f"/x/{number}") for number in range(10_000)])),
    case(70, "image-part-above", "mounts[0].image_sub_path",
         mount(image=pb.ImageSpec(image="x"), container_path="/x", readonly=True, image_sub_path="../..")),
    case(71, "device-above", "devices[0].host_path", device(host_path="/dev/../etc/shadow")),
    case(71, "device-is-a-file", "devices[0].host_path", device(host_path="/etc/shadow")),
    case(71, "device-is-proc", "devices[0].host_path", device(host_path="/proc/self/exe")),
    case(71, "device-permissions", "devices[0].permissions", device(host_path="/dev/null", permissions="rwmx")),
    case(71, "device-place-above", "devices[0].container_path",
         device(host_path="/dev/null", container_path="/dev/../etc/x")),
    *(case(72, f"{which.replace('_', '-')}-{topic}", f"{SECURITY}.{which}[1]",
           put(f"linux.security_context.{which}", ["/proc/kcore", path]))
      for which in ("masked_paths", "readonly_paths")
      for topic, path in (("empty", ""), ("relative", "proc/kcore"), ("above", "/proc/../etc"), ("NUL", "/proc\0"))),
    case(73, "seccomp-above", f"{SECURITY}.seccomp.localhost_ref", profile("seccomp", "../../etc/x")),
    case(73, "seccomp-elsewhere", "linux.security_context.seccomp.localhost_ref", profile("seccomp", "/etc/passwd")),
    *(case(73, f"apparmor-{topic}", f"{SECURITY}.apparmor.localhost_ref", profile("apparmor", ref))
      for topic, ref in (("newline", "a\nb"), ("NUL", "a\0b"), ("empty", ""))),
    *(case(73, f"selinux-{part}-{topic}", f"{SECURITY}.selinux_options.{part}",
           put(f"linux.security_context.selinux_options.{part}", value))
      for part in ("user", "role", "type", "level")
      for topic, value in (("newline", "a\nb"), ("NUL", "a\0b"), ("colon", "a b"))),
    *(case(75, f"name-{topic}", "config.metadata.name", put("metadata.name", value)) for topic, value in (
        ("slash", "a/b"), ("above", ".."), ("NUL", "a\0b"), ("newline", "a\nb"), ("empty", ""))),
    case(75, "no-metadata", "config.metadata", lambda config: config.ClearField("metadata")),
    case(76, "annotations-of-16-MiB", "config.annotations", put("annotations", {"big": "x" * (16 << 20)})),
    *(case(77, f"{field}-{topic}", f"{RESOURCES}.{field}", put(f"linux.resources.{field}", value))
      for field, topic, value in (
        ("cpu_period", "negative", -1), ("cpu_period", "2^63", TOO_MUCH), ("cpu_quota", "negative", -2),
        ("cpu_shares", "negative", -1), ("memory_limit_in_bytes", "negative", -1),
        ("memory_swap_limit_in_bytes", "negative", -2), ("oom_score_adj", "low", -2000),
        ("oom_score_adj", "high", 2000),
        ("cpuset_cpus", "many", "0-99999999"), ("cpuset_cpus", "words", "all"), ("cpuset_cpus", "newline", "0\n"),
        ("cpuset_mems", "path", "../0"))),
    case(77, "cpuset-of-cpus-that-are-not-there", "linux.resources.cpuset_cpus",
         put("linux.resources.cpuset_cpus", "0-60000")),
    *(case(77, f"{kind}-class-{topic}", f"config.annotations[io.kubernetes.cri.{kind}-class]",
           put("annotations", {f"io.kubernetes.cri.{kind}-class": value}), code=FAILED)
      for kind in ("blockio", "rdt") for topic, value in (("unknown", "gold"), ("of-64-KiB", "x" * 65536),
                                                          ("path", "../../x"))),
    case(77, "cpuset-backwards", "linux.resources.cpuset_cpus", put("linux.resources.cpuset_cpus", "1-0")),
    case(77, "memory-below-the-least", "linux.resources.memory_limit_in_bytes",
         put("linux.resources.memory_limit_in_bytes", 1)),
    case(79, "argv-of-3-MiB", "config.command", put("command", ["x" * (3 << 20)])),
    case(79, "argv-NUL", "config.args[0]", put("args", ["a\0b"])),
]  # fmt: skip


@pytest.mark.parametrize("one", CONTAINERS, ids=named)
def test_a_container_is_refused(daemon: Daemon, cri: Cri, shared: Pod, one: Case) -> None:
    config = container_config(shared.image, "sleep", "1")
    one.change(config)
    with nothing_left(daemon), refused(one.code, *one.words):
        cri.create(shared.id, config, shared.config)


@pytest.fixture(scope="module")
def shared(daemon: Daemon, busybox_ref: str) -> Iterator[Pod]:
    """A pod that all refused containers are asked for in."""
    mine = Pod(daemon.cri, daemon.logs, busybox_ref)
    yield mine
    mine.remove()


@pytest.fixture(scope="module")
def running(shared: Pod) -> str:
    return shared.shell("sleep 600")


def test_61_annotations_are_kept_and_reach_no_runtime(pods, cri: Cri, daemon: Daemon) -> None:
    hostile = {
        "org.systemd.property.ExecStartPre": "['/bin/false']",
        "run.oci.handler": "krun",
        "run.oci.hooks.stdout": "/etc/cron.d/x",
        "io.kubernetes.cri-o.Devices": "/dev/kmsg",
        "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw": "true",
        "unified-cgroup.crio.io": "memory.max=1",
        "io.kubernetes.cri-o.UnifiedCgroup.box": "../cgroup.procs=1",
        "pod-linux-resources.crio.io": "{}",
        "io.kubernetes.cri.sandbox-memory": "1",
    }
    config = pod_config(daemon.logs, annotations=hostile)
    pod = pods(config)
    container = pod.shell("sleep 600", annotations=hostile)
    assert dict(cri.pod(pod.id).annotations) == hostile
    assert dict(cri.container(container).annotations) == hostile
    written = cri.info(container)["runtimeSpec"]["annotations"]
    assert not set(hostile) & set(written)


def test_64_a_log_is_a_plain_file_below_its_directory(daemon: Daemon, cri: Cri, shared: Pod, tmp_path: Path) -> None:
    logs = Path(shared.config.log_directory)
    (logs / "link").symlink_to(tmp_path / "target")
    (logs / "out").symlink_to(tmp_path)
    (logs / "folder").mkdir()
    os.mkfifo(logs / "pipe")
    for path in ("link", "out/x", "folder", "pipe", "pipe/x"):
        with nothing_left(daemon), refused(INVALID, "log_path"):
            shared.create("true", log_path=path)
    assert not list(tmp_path.iterdir())


def test_64_a_log_directory_is_no_link(daemon: Daemon, cri: Cri, pods, tmp_path: Path) -> None:
    link = daemon.logs / "linked"
    link.symlink_to(tmp_path)
    try:
        pod = pods(pod_config(daemon.logs, log_directory=str(link)))
        with nothing_left(daemon), refused(INVALID, "log_directory"):
            pod.create("true")
    finally:
        link.unlink()
    assert not list(tmp_path.iterdir())


def test_65_a_written_backslash_n_is_no_newline(pod: Pod) -> None:
    envs = [pb.KeyValue(key="HOME", value=rb"/a\nb"), pb.KeyValue(key="OTHER", value=b"a\nb")]
    _, log = pod.result('printf "%s|" "$HOME"; echo "$OTHER"', envs=envs)
    assert "\n".join(text for _, text in log) == "/a\\nb|a\nb"


def test_67_groups_are_those_of_the_policy(pod: Pod) -> None:
    def groups(policy: int) -> set[str]:
        user = pb.LinuxContainerSecurityContext(
            run_as_username="web", supplemental_groups=[3000], supplemental_groups_policy=policy
        )
        status, log = pod.result("id -u; id -G", security=user)
        assert (status.exit_code, log[0][1]) == (0, "1000")
        return set(log[1][1].split())

    assert groups(pb.Merge) == {"1001", "2000", "3000"}
    assert groups(pb.Strict) == {"1001", "3000"}


@pytest.mark.parametrize(
    ("added", "dropped"), [(["cap_net_raw"], []), (["ALL"], ["CHOWN"]), (["CAP_CHOWN"], ["ALL"]), (["all"], ["ALL"])]
)
def test_68_no_capability_is_inheritable(pod: Pod, added: list[str], dropped: list[str]) -> None:
    asked = pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(add_capabilities=added, drop_capabilities=dropped)
    )
    _, log = pod.result("grep -E 'Cap(Inh|Amb)' /proc/self/status", security=asked)
    assert {text.split()[1] for _, text in log} == {"0" * 16}


def test_69_links_of_an_image_lead_no_mount_out_of_it(daemon: Daemon, cri: Cri, pod: Pod, registry) -> None:
    from deploy.demo_image import busybox_layer, image

    layer = busybox_layer()
    layer.symlink("out", "../../../../../../../../tmp")
    layer.symlink("kernel", "/proc/sys")
    registry.push(image([layer.tar()], {"Cmd": ["sleep", "600"], "Env": ["PATH=/bin"]}), "links", "v1")
    pod.image = f"{registry.address}/links:v1"
    cri.pull(pod.image)
    name = f"{daemon.name}-never-on-the-host"
    container = pod.run(mounts=[pb.Mount(host_path="/etc", container_path=f"/out/{name}", readonly=True)])
    assert "hostname" in cri.output(container, "ls", f"/tmp/{name}").split()
    assert not Path("/tmp", name).exists()
    inside = [pb.Mount(host_path="/etc", container_path="/kernel/vm")]
    with nothing_left(daemon):  # the OCI runtime refuses, so late that a log would have been begun
        error = outcome(lambda: pod.create("true", log_path="", mounts=inside))
        assert isinstance(error, grpc.RpcError)
        assert "proc" in error.details()


def test_70_links_of_an_image_lead_no_part_out_of_it(daemon: Daemon, cri: Cri, pod: Pod, registry) -> None:
    from deploy.demo_image import Layer, image

    layer = Layer()
    layer.symlink("out", "../../../../../../etc")
    registry.push(image([layer.tar()]), "part", "v1")
    reference = f"{registry.address}/part:v1"
    cri.pull(reference)
    volume = pb.Mount(image=pb.ImageSpec(image=reference), container_path="/x", readonly=True, image_sub_path="out")
    with nothing_left(daemon), refused(INVALID, "mounts[0].image_sub_path"):
        pod.create("true", mounts=[volume])


def test_71_a_folder_of_ten_thousand_nodes_is_refused_soon(daemon: Daemon, shared: Pod, tmp_path: Path) -> None:
    for number in range(10_000):
        os.mknod(tmp_path / str(number), 0o20600, os.makedev(1, 3))
    begun = time.monotonic()
    with nothing_left(daemon), refused(INVALID, "devices[0].host_path"):
        shared.create("true", devices=[pb.Device(container_path="/dev/x", host_path=str(tmp_path), permissions="r")])
    assert time.monotonic() - begun < 10 * host.SLOWNESS


def test_74_ids_that_are_none(daemon: Daemon, cri: Cri, pods, shared: Pod, running: str) -> None:
    other = pods()
    for text, code in (
        ("", INVALID), ("../" + running, NOT_FOUND), (shared.id, NOT_FOUND), ("f" * 64, NOT_FOUND),
        (running + "0", NOT_FOUND), ("é", NOT_FOUND), (running[:-1] + "\0", NOT_FOUND),
    ):  # fmt: skip
        with nothing_left(daemon):
            for rpc in ("ContainerStatus", "StartContainer", "ReopenContainerLog"):
                with refused(code):
                    cri.call(rpc, container_id=text)
            with refused(code):
                cri.call("ExecSync", container_id=text, cmd=["true"])
    with refused(NOT_FOUND):
        cri.pod(running)
    with nothing_left(daemon), refused(INVALID, "target_id"):
        options = pb.NamespaceOption(pid=pb.TARGET, target_id=running)
        other.create("true", security=pb.LinuxContainerSecurityContext(namespace_options=options))
    assert cri.container(running[:20]).id == running
    with refused(NOT_FOUND):
        cri.create(running, container_config(shared.image, "true"), shared.config)


def test_74_the_beginning_of_two_ids_is_refused(cri: Cri, shared: Pod) -> None:
    made: list[str] = []
    while len({container[0] for container in made}) == len(made):  # at 17 at the latest
        made.append(shared.create("true"))
    with refused(INVALID, "container_id", "more than one"):
        cri.container(made[-1][0])
    for container in made:
        cri.remove(container)


def test_75_the_last_attempt_and_no_linux_are_served(pods, daemon: Daemon, cri: Cri) -> None:
    config = pod_config(daemon.logs)
    config.metadata.attempt = (1 << 32) - 1
    config.ClearField("linux")
    pod = pods(config)
    bare = container_config(pod.image, "true")
    bare.ClearField("linux")
    bare.metadata.attempt = (1 << 32) - 1
    container = cri.create(pod.id, bare, config)
    assert cri.pod(pod.id).metadata.attempt == cri.container(container).metadata.attempt == (1 << 32) - 1


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("deep-groups", b"\x0b" * 10_000 + b"\x0c" * 10_000),
        ("no-utf-8", b"\x0a\x04\x12\x02\xff\xfe"),
        ("cut-off", b"\x0a\xff\xff\xff\x7f"),
        ("endless-number", b"\x0a" + b"\xff" * 64),
    ],
)
def test_76_bytes_that_are_no_request(daemon: Daemon, cri: Cri, topic: str, body: bytes) -> None:
    with nothing_left(daemon), grpc.insecure_channel(f"unix://{daemon.socket}") as channel:
        raw = channel.unary_unary("/runtime.v1.RuntimeService/RunPodSandbox")
        with refused(INVALID, "request"):
            raw(body, timeout=20)
        assert cri.status().status.conditions


def test_76_unknown_fields_are_passed_over(daemon: Daemon) -> None:
    with grpc.insecure_channel(f"unix://{daemon.socket}") as channel:
        raw = channel.unary_unary("/runtime.v1.RuntimeService/Version")
        assert pb.VersionResponse.FromString(raw(b"\xfa\x3f\x03abc", timeout=20)).runtime_name


def test_77_an_update_is_refused_too(daemon: Daemon, cri: Cri, running: str) -> None:
    for fields in (
        {"memory_limit_in_bytes": -1}, {"cpu_period": TOO_MUCH}, {"cpuset_cpus": "0-99999999"},
        {"cpuset_cpus": "0-60000"}, {"oom_score_adj": -2000}, {"unified": {"../cgroup.procs": "1"}},
    ):  # fmt: skip
        with nothing_left(daemon), refused(INVALID, next(iter(fields))):
            cri.call("UpdateContainerResources", container_id=running, linux=pb.LinuxContainerResources(**fields))


def test_79_times_and_arguments_that_cannot_be(daemon: Daemon, cri: Cri, pod: Pod, running: str) -> None:
    with refused(INVALID, "timeout"):
        cri.call("StopContainer", container_id=running, timeout=-1)
    assert cri.container(running).state == pb.CONTAINER_RUNNING
    for words, fields in (("timeout", {"cmd": ["true"], "timeout": -1}), ("cmd", {"cmd": []}), ("cmd", {"cmd": [""]}),
                          ("cmd", {"cmd": ["a\0b"]}), ("cmd", {"cmd": ["echo", "x" * (3 << 20)]})):  # fmt: skip
        with nothing_left(daemon), refused(INVALID, words):
            cri.call("ExecSync", container_id=running, **fields)
    ending = pod.shell("exit 0")
    cri.wait_exit(ending)
    cri.call("StopContainer", container_id=ending, timeout=TOO_MUCH)


def test_80_output_without_end_is_cut_off_and_written_nowhere(daemon: Daemon, cri: Cri, running: str) -> None:
    with nothing_left(daemon):
        done = cri.exec(running, "sh", "-c", "head -c 400000000 /dev/zero; head -c 100000000 /dev/zero >&2", timeout=60)
    assert (done.exit_code, len(done.stdout), len(done.stderr)) == (0, 16 << 20, 16 << 20)


def test_80_a_child_that_keeps_the_output_open_holds_nothing_up(cri: Cri, running: str) -> None:
    begun = time.monotonic()
    done = cri.exec(running, "sh", "-c", "sleep 300 & echo said")
    assert (done.stdout, time.monotonic() - begun < 10 * host.SLOWNESS) == (b"said\n", True)


def test_80_more_commands_at_once_than_a_container_may_have(cri: Cri, pods) -> None:
    container = pods().shell("sleep 600")
    with ThreadPoolExecutor(160) as crowd:
        asked = [crowd.submit(outcome, lambda: cri.exec(container, "sleep", "5", timeout=60)) for _ in range(160)]
        got = [one.result() for one in asked]
    refusals = [one for one in got if isinstance(one, grpc.RpcError)]
    assert {one.code() for one in refusals} == {EXHAUSTED}, refusals
    assert all(one.exit_code == 0 for one in got if not isinstance(one, grpc.RpcError))
    assert len(got) - len(refusals) >= 128
    assert cri.exec(container, "true").exit_code == 0


@pytest.mark.parametrize("cidr", ['10.0.0.0/24", "x": "', "10.0.0.0/24\n10.0.1.0/24", "::/0/../x", "words"])
def test_81_a_range_for_pods_is_no_text_for_a_file(daemon: Daemon, cri: Cri, cidr: str) -> None:
    folder = daemon.folder / "cni"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    config = pb.RuntimeConfig(network_config=pb.NetworkConfig(pod_cidr=cidr))
    answer = outcome(lambda: cri.call("UpdateRuntimeConfig", runtime_config=config))
    if isinstance(answer, grpc.RpcError):
        assert answer.code() in (INVALID, grpc.StatusCode.UNIMPLEMENTED)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("place", ["etc/x", "../x", "", "/tmp/../etc/x", "/a\nb", "/etc/x", "/usr/bin/x"])
def test_82_a_checkpoint_goes_nowhere_else(daemon: Daemon, cri: Cri, running: str, place: str) -> None:
    with nothing_left(daemon), refused(INVALID, "location"):
        cri.call("CheckpointContainer", container_id=running, location=place)


def test_82_nothing_is_restored(daemon: Daemon, cri: Cri, tmp_path: Path) -> None:
    with nothing_left(daemon), refused(grpc.StatusCode.UNIMPLEMENTED):
        cri.call("RestorePod", checkpoint_path=str(tmp_path / "archive.tar"), config=pod_config(daemon.logs))


def test_83_an_image_in_use_is_kept(daemon: Daemon, cri: Cri, busybox_ref: str, running: str) -> None:
    image = cri.image(busybox_ref).id
    with nothing_left(daemon):
        for name in (busybox_ref, image, image.removeprefix("sha256:")[:12]):
            with refused(FAILED, "is used by container"):
                cri.remove_image(name)
    assert cri.image(image.removeprefix("sha256:")[:12]).id == image
    for rpc in ("ImageStatus", "RemoveImage"):
        with refused(INVALID, "image"):
            cri.call(rpc, image=pb.ImageSpec(image=""))
        with refused(INVALID, "image"):
            cri.call(rpc)
    for name in ("../../etc/passwd", "a\nb", "sha256:xyz", "x" * 70_000):
        with refused(INVALID, "image"):
            cri.image(name)
