"""What confines a container, looked at from inside: seccomp, AppArmor, SELinux, capabilities, privileges, paths."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import INVALID, Cri, Pod, container_config, pod_config, refused
from tests.harness.daemon import Daemon, serving
from tests.harness.registry import Registry
from tests.integration.conftest import Pods, insecure

DEFAULT, UNCONFINED, LOCALHOST = (
    pb.SecurityProfile.RuntimeDefault,
    pb.SecurityProfile.Unconfined,
    pb.SecurityProfile.Localhost,
)
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NO_CHMOD = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["chmod", "fchmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["no_such_call_in_any_kernel"], "action": "SCMP_ACT_ERRNO"},
    ],
}


@pytest.fixture(scope="module")
def daemon(system_users: None, registry: Registry) -> Iterator[Daemon]:
    """A daemon with the built-in default profile and a folder of its own for profiles of the node."""
    mine = Daemon(insecure(registry.address))
    folder = mine.folder / "seccomp"
    folder.mkdir()
    _profiles(folder)
    with serving(mine, runtime={"seccomp_root": str(folder), "seccomp_profile": "builtin"}):
        yield mine


def _profiles(folder: Path) -> None:
    """Profiles of the node: good ones, and all kinds of wrong ones."""
    (folder / "team").mkdir()
    (folder / "team" / "no-chmod.json").write_text(json.dumps(NO_CHMOD))
    (folder / "words.json").write_text("no profile")
    (folder / "action.json").write_text('{"defaultAction": "SCMP_ACT_PRAY"}')
    (folder / "errno.json").write_text('{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 100000}')
    (folder / "large.json").write_text(" " * (2 << 20))
    os.mkfifo(folder / "pipe.json")
    (folder.parent / "outside.json").write_text(json.dumps(NO_CHMOD))
    (folder / "link.json").symlink_to("../outside.json")
    (folder / "inner.json").symlink_to("team/no-chmod.json")


def security(**fields) -> pb.LinuxContainerSecurityContext:
    return pb.LinuxContainerSecurityContext(**fields)


def profile(kind, ref: str = "") -> pb.SecurityProfile:
    return pb.SecurityProfile(profile_type=kind, localhost_ref=ref)


def status(cri: Cri, container: str) -> dict[str, str]:
    """/proc/1/status as the container reads it."""
    lines = cri.output(container, "cat", "/proc/1/status").splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def masks(cri: Cri, container: str) -> dict[str, int]:
    """The capability sets of process 1."""
    return {key: int(value, 16) for key, value in status(cri, container).items() if key.startswith("Cap")}


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


# seccomp


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_the_default_profile_keeps_namespaces_and_mounts_away(pods: Pods, cri: Cri, handler: str) -> None:
    pod = pods(handler=handler)
    confined = pod.shell("sleep 600", security=security(seccomp=profile(DEFAULT)))
    free = pod.shell("sleep 600", security=security(seccomp=profile(UNCONFINED)))
    assert status(cri, confined)["Seccomp"] == "2"
    assert status(cri, confined)["NoNewPrivs"] == "0"
    assert status(cri, free)["Seccomp"] == "0"
    assert cri.exec(confined, "unshare", "-U", "true").exit_code != 0
    assert b"not permitted" in cri.exec(confined, "unshare", "-U", "true").stderr
    cri.output(free, "unshare", "-U", "true")


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_the_default_profile_allows_what_the_containers_capabilities_are_for(
    pods: Pods, cri: Cri, handler: str
) -> None:
    capable = pb.Capability(add_capabilities=["SYS_ADMIN"])
    container = pods(handler=handler).shell(
        "sleep 600", security=security(seccomp=profile(DEFAULT), capabilities=capable)
    )
    assert status(cri, container)["Seccomp"] == "2"
    cri.output(container, "mount", "-t", "tmpfs", "none", "/tmp")
    cri.output(container, "unshare", "-m", "true")


def test_programs_run_under_the_default_profile(pod: Pod) -> None:
    script = """set -e; cd /tmp; echo a > f; chmod 600 f; chown 1 f; ln -s f g; grep a g; mkdir d; mv f d; rm -r d g
        mkfifo p; sleep 0.1 & wait; kill -0 $$; date; id; hostname; touch t; find / -maxdepth 1
        chroot / true; ulimit -n; top -bn1; uname -a; df; tar cf t.tar /bin/sh; gzip t.tar; nc -l -p 1 & kill $!"""
    ended, log = pod.result(script, security=security(seccomp=profile(DEFAULT)))
    assert ended.exit_code == 0, log


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_a_profile_of_the_node_blocks_what_it_says(pods: Pods, cri: Cri, daemon: Daemon, handler: str) -> None:
    pod = pods(handler=handler)
    whole = str(daemon.folder / "seccomp" / "team" / "no-chmod.json")
    for asked in (
        security(seccomp=profile(LOCALHOST, whole)),
        security(seccomp=profile(LOCALHOST, "team/no-chmod.json")),
        security(seccomp_profile_path=f"localhost/{whole}"),
    ):
        container = pod.shell("sleep 600", security=asked)
        done = cri.exec(container, "chmod", "700", "/tmp")
        assert (done.exit_code != 0, b"not permitted" in done.stderr) == (True, True)
        cri.output(container, "mkdir", "/tmp/yes")


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("../outside.json", "'..'"),
        ("team/../../outside.json", "'..'"),
        ("/etc/passwd", "not a file below"),
        ("link.json", "symbolic link"),
        ("inner.json", "symbolic link"),
        ("missing.json", "No such file"),
        ("team", "not a plain file"),
        ("pipe.json", "not a plain file"),
        ("", "is empty"),
        ("a\nb", "control character"),
        ("a\0b", "control character"),
        ("large.json", "larger than"),
        ("words.json", "not a seccomp profile"),
        ("action.json", "not a seccomp profile"),
        ("errno.json", "not a seccomp profile"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(pod: Pod, cri: Cri, ref: str, said: str) -> None:
    for asked, field in (
        (security(seccomp=profile(LOCALHOST, ref)), "linux.security_context.seccomp.localhost_ref"),
        (security(seccomp_profile_path=f"localhost/{ref}"), "linux.security_context.seccomp_profile_path"),
    ):
        with refused(INVALID, field, said):
            pod.create("true", security=asked)
    assert not cri.list_containers(pod_sandbox_id=pod.id)


def test_what_an_older_kubelet_writes_means_the_same(pod: Pod, cri: Cri) -> None:
    found = {
        path: status(cri, pod.shell("sleep 600", security=security(seccomp_profile_path=path)))["Seccomp"]
        for path in ("", "unconfined", "runtime/default", "docker/default")
    }
    assert found == {"": "0", "unconfined": "0", "runtime/default": "2", "docker/default": "2"}
    both = security(seccomp=profile(DEFAULT), seccomp_profile_path="unconfined")
    assert status(cri, pod.shell("sleep 600", security=both))["Seccomp"] == "2"
    with refused(INVALID, "seccomp_profile_path"):
        pod.create("true", security=security(seccomp_profile_path="runtime/strict"))


def test_a_privileged_container_has_no_filter(pods: Pods, cri: Cri, daemon: Daemon) -> None:
    config = pod_config(daemon.logs, "privileged")
    config.linux.security_context.privileged = True
    pod = pods(config)
    for asked in (profile(DEFAULT), profile(LOCALHOST, "team/no-chmod.json")):
        container = pod.shell("sleep 600", security=security(privileged=True, seccomp=asked))
        assert status(cri, container)["Seccomp"] == "0"
        cri.output(container, "chmod", "700", "/tmp")


def test_the_configuration_can_give_everyone_a_profile(
    daemon: Daemon, registry: Registry, busybox_ref: str, system_users: None
) -> None:
    mine = Daemon(insecure(registry.address))
    own = mine.folder / "own.json"
    own.write_text(json.dumps(NO_CHMOD))
    profiles = {"seccomp_profile": str(own), "privileged_seccomp_profile": str(own), "unset_seccomp": "default"}
    with serving(mine, runtime=profiles):
        mine.cri.pull(busybox_ref)
        config = pod_config(mine.logs)
        config.linux.security_context.privileged = True
        pod = Pod(mine.cri, mine.logs, busybox_ref, config)
        for asked in (security(), security(seccomp=profile(DEFAULT)), security(privileged=True)):
            container = pod.shell("sleep 600", security=asked)
            assert mine.cri.exec(container, "chmod", "700", "/tmp").exit_code != 0
        theirs = mine.folder / "kubelet" / "seccomp.json"  # of a kubelet with another --root-dir
        theirs.parent.mkdir()
        theirs.write_text(json.dumps(NO_CHMOD))
        named = security(seccomp=profile(LOCALHOST, str(theirs)))
        assert mine.cri.exec(pod.shell("sleep 600", security=named), "chmod", "700", "/tmp").exit_code != 0
        theirs.chmod(0o646)
        with refused(INVALID, "linux.security_context.seccomp.localhost_ref", "others than root"):
            pod.create("true", security=named)
        own.chmod(0o666)
        with refused(PRECONDITION, str(own), "others than root"):
            pod.create("true")
        pod.remove()


# AppArmor and SELinux


def _apparmor() -> bool:
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    return enabled.exists() and enabled.read_text().startswith("Y")


def test_apparmors_default_is_no_error_anywhere(pod: Pod, cri: Cri) -> None:
    kinds = [security(apparmor=profile(DEFAULT)), security(apparmor=profile(UNCONFINED)), security()]
    kinds += [security(apparmor_profile="runtime/default"), security(apparmor_profile="unconfined")]
    said = []
    for asked in kinds:
        container = pod.shell("sleep 600", security=asked)
        said.append(cri.exec(container, "cat", "/proc/1/attr/current").stdout.decode().strip())
    if _apparmor() and shutil.which("apparmor_parser"):
        assert said == ["crisp-default (enforce)", "unconfined"] + ["crisp-default (enforce)"] * 2 + ["unconfined"]
    else:
        assert not any("crisp" in text for text in said)


@pytest.mark.parametrize("deprecated", [False, True])
def test_an_apparmor_profile_that_is_not_there_is_told(pod: Pod, cri: Cri, deprecated: bool) -> None:
    def asked(ref: str) -> pb.LinuxContainerSecurityContext:
        if deprecated:
            return security(apparmor_profile=f"localhost/{ref}")
        return security(apparmor=profile(LOCALHOST, ref))

    field = "linux.security_context.apparmor_profile" if deprecated else "linux.security_context.apparmor.localhost_ref"
    with refused(PRECONDITION, field, "nowhere-loaded"):
        pod.create("true", security=asked("nowhere-loaded"))
    for bad in ("", "a\nb", "a\0b", "x" * 5000):
        with refused(INVALID, field):
            pod.create("true", security=asked(bad))
    assert not cri.list_containers(pod_sandbox_id=pod.id)


@pytest.mark.skipif(Path("/sys/fs/selinux/enforce").exists(), reason="this host has SELinux")
def test_selinux_options_are_refused_where_the_kernel_has_none(pods: Pods, pod: Pod, cri: Cri, daemon: Daemon) -> None:
    with refused(PRECONDITION, "linux.security_context.selinux_options"):
        pod.create("true", security=security(selinux_options=pb.SELinuxOption(type="spc_t", level="s0")))
    for part in ("user", "role", "type", "level"):
        with refused(INVALID, f"selinux_options.{part}"):
            pod.create("true", security=security(selinux_options=pb.SELinuxOption(**{part: "a\nb"})))
    config = pod_config(daemon.logs)
    config.linux.security_context.selinux_options.level = "s0:c1,c2"
    with refused(PRECONDITION, "linux.security_context.selinux_options"):
        pods(config).create("true")
    assert not cri.list_containers(pod_sandbox_id=pod.id)


def test_relabelling_is_nothing_where_the_kernel_has_no_labels(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    folder = daemon.folder / "labelled"
    folder.mkdir()
    mount = pb.Mount(container_path="/data", host_path=str(folder), selinux_relabel=True)
    cri.output(pod.shell("sleep 600", mounts=[mount]), "touch", "/data/yes")
    assert (folder / "yes").exists()


# Capabilities


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_capabilities_by_any_spelling_and_no_inheritable_or_ambient_ones(pods: Pods, cri: Cri, handler: str) -> None:
    pod = pods(handler=handler)
    changed = pb.Capability(add_capabilities=["CAP_NET_ADMIN", "sys_time"], drop_capabilities=["cap_chown", "KILL"])
    default = masks(cri, pod.shell("sleep 600"))
    found = masks(cri, pod.shell("sleep 600", security=security(capabilities=changed)))
    wanted = default["CapEff"] & ~bits(0, 5) | bits(12, 25)
    assert found == {"CapInh": 0, "CapPrm": wanted, "CapEff": wanted, "CapBnd": wanted, "CapAmb": 0}
    as_user = masks(
        cri, pod.shell("sleep 600", security=security(capabilities=changed, run_as_user=pb.Int64Value(value=1000)))
    )
    assert as_user == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": wanted, "CapAmb": 0}


def test_all_capabilities_are_those_of_the_daemon(pod: Pod, cri: Cri) -> None:
    own = int(Path("/proc/self/status").read_text().split("CapBnd:")[1].split()[0], 16)

    def effective(add: list[str], drop: list[str]) -> int:
        asked = security(capabilities=pb.Capability(add_capabilities=add, drop_capabilities=drop))
        return masks(cri, pod.shell("sleep 600", security=asked))["CapEff"]

    assert effective(["ALL"], []) == own
    assert effective(["CAP_ALL"], ["SYS_ADMIN"]) == own & ~bits(21)
    assert effective(["NET_RAW"], ["ALL"]) == bits(13)
    assert effective([], ["all"]) == 0
    # a capability that the daemon lacks costs the container nothing else
    assert effective(["SYS_RESOURCE", "NET_RAW"], ["ALL"]) == bits(13) | own & bits(24)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("add_capabilities[0]", pb.Capability(add_capabilities=["CAP_FOO"])),
        ("add_capabilities[1]", pb.Capability(add_capabilities=["CHOWN", "CAP_CAP_CHOWN"])),
        ("drop_capabilities[0]", pb.Capability(drop_capabilities=["chown\n"])),
        ("drop_capabilities[0]", pb.Capability(drop_capabilities=[""])),
    ],
)
def test_an_unknown_capability_is_refused(pod: Pod, field: str, change: pb.Capability) -> None:
    with refused(INVALID, f"linux.security_context.capabilities.{field}"):
        pod.create("true", security=security(capabilities=change))


def test_ambient_capabilities_are_refused(pod: Pod) -> None:
    asked = pb.Capability(add_capabilities=["NET_RAW"], add_ambient_capabilities=["NET_RAW"])
    with refused(grpc.StatusCode.UNIMPLEMENTED, "capabilities.add_ambient_capabilities", "inheritable"):
        pod.create("true", security=security(capabilities=asked))


def test_an_oom_score_below_what_the_daemon_may_give_is_clamped(pod: Pod, cri: Cri, daemon: Daemon) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    able = int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16) & bits(24)
    for _ in range(2):
        container = pod.run("sleep", "600", resources=pb.LinuxContainerResources(oom_score_adj=-998))
        found = int(Path(f"/proc/{cri.pid(container)}/oom_score_adj").read_text())
        assert found == (-998 if able else max(own, -998))
    if not able:
        assert daemon.log.read_text().count("oom_score_adj is") == 1


# Privileges and paths


@pytest.mark.parametrize("handler", ["runc", "crun"])
@pytest.mark.parametrize("seccomp", [DEFAULT, UNCONFINED])
def test_a_set_user_id_program_gains_nothing_with_no_new_privs(
    pods: Pods, cri: Cri, daemon: Daemon, handler: str, seccomp: int
) -> None:
    folder = daemon.folder / "setuid"
    folder.mkdir(exist_ok=True)
    program = folder / "wait"
    shutil.copy("/usr/bin/catatonit", program)  # a static program that waits
    program.chmod(0o4755)
    pod = pods(handler=handler)
    found = {}
    for no_new_privs in (False, True):
        asked = security(no_new_privs=no_new_privs, run_as_user=pb.Int64Value(value=1000), seccomp=profile(seccomp))
        mount = pb.Mount(container_path="/setuid", host_path=str(folder), readonly=True)
        said = status(cri, pod.run("/setuid/wait", "-P", security=asked, mounts=[mount]))
        assert said["NoNewPrivs"] == str(int(no_new_privs))
        found[no_new_privs] = said["Uid"].split()
    assert found == {False: ["1000", "0", "0", "0"], True: ["1000"] * 4}


def test_paths_are_masked_and_read_only_as_the_request_says(pod: Pod, cri: Cri) -> None:
    asked = security(masked_paths=["/etc/passwd", "/home"], readonly_paths=["/etc", "/proc/sys/kernel"])
    container = pod.shell("sleep 600", security=asked)
    assert cri.output(container, "cat", "/etc/passwd") == ""
    assert cri.output(container, "ls", "/home") == ""
    assert b"Read-only" in cri.exec(container, "touch", "/etc/no").stderr
    assert b"Read-only" in cri.exec(container, "sh", "-c", "echo x > /proc/sys/kernel/shm_rmid_forced").stderr
    # the request's paths are there in place of the default ones
    assert b"Read-only" not in cri.exec(container, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward").stderr
    cri.output(container, "touch", "/yes")
    plain = pod.shell("sleep 600")
    assert b"Read-only" in cri.exec(plain, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward").stderr


def test_empty_lists_of_paths_mask_nothing_as_an_unmasked_proc_mount_asks(pod: Pod, cri: Cri) -> None:
    hidden = "/proc/keys"
    masked = pod.shell("sleep 600")  # a request without a security context
    assert cri.output(masked, "cat", hidden) == ""
    bare = pod.shell("sleep 600", security=security())
    linux = cri.info(bare)["runtimeSpec"]["linux"]
    assert not linux["maskedPaths"]
    assert not linux["readonlyPaths"]
    mounts = cri.output(bare, "cat", "/proc/self/mountinfo")
    assert [line for line in mounts.splitlines() if line.split()[4].startswith("/proc/")] == []
    assert b"Read-only" not in cri.exec(bare, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward").stderr


@pytest.mark.parametrize("path", ["", "proc/kcore", "/proc/../etc", "/a\nb"])
def test_a_path_that_cannot_be_is_refused(pod: Pod, path: str) -> None:
    for field in ("masked_paths", "readonly_paths"):
        with refused(INVALID, f"linux.security_context.{field}[0]"):
            pod.create("true", security=security(**{field: [path]}))


def test_a_read_only_root_leaves_the_kernels_own_places_writable(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600", security=security(readonly_rootfs=True))
    for path in ("/no", "/etc/no", "/tmp/no", "/etc/hostname"):
        assert b"Read-only" in cri.exec(container, "touch", path).stderr, path
    cri.output(container, "touch", "/dev/shm/yes")


def test_a_privileged_container_is_masked_nowhere_and_writes_everywhere(pods: Pods, cri: Cri, daemon: Daemon) -> None:
    config = pod_config(daemon.logs, "open")
    config.linux.security_context.privileged = True
    pod = pods(config)
    container = pod.shell("sleep 600", security=security(privileged=True))
    mounted = {
        line.split()[1]: line.split()[3].split(",")
        for line in cri.output(container, "cat", "/proc/mounts").splitlines()
    }
    assert "rw" in mounted["/sys"]
    assert not {"/proc/sys", "/proc/keys", "/proc/timer_list", "/sys/firmware"} & set(mounted)
    cri.output(container, "sh", "-c", "cat /proc/sys/kernel/core_uses_pid > /proc/sys/kernel/core_uses_pid")
    cri.output(container, "mkdir", f"/sys/fs/cgroup/{'memory/' if 'memory' in os.listdir('/sys/fs/cgroup') else ''}in")
    cri.output(container, "rmdir", f"/sys/fs/cgroup/{'memory/' if 'memory' in os.listdir('/sys/fs/cgroup') else ''}in")
    with refused(INVALID, "privileged"):
        pods().create("true", security=security(privileged=True))


def test_confinement_of_a_container_holds_for_what_is_run_in_it(pod: Pod, cri: Cri) -> None:
    asked = security(seccomp=profile(DEFAULT), no_new_privs=True, capabilities=pb.Capability(drop_capabilities=["ALL"]))
    container = pod.shell("sleep 600", security=asked)
    said = cri.output(container, "grep", "-E", "Seccomp:|NoNewPrivs|CapBnd|CapEff", "/proc/self/status").split()
    assert said[1::2] == ["0" * 16, "0" * 16, "1", "2"]


def test_a_container_that_was_refused_can_be_asked_for_again(pod: Pod, cri: Cri) -> None:
    def create(ref: str) -> str:
        asked = security(seccomp=profile(LOCALHOST, ref))
        return cri.create(pod.id, container_config(pod.image, "true", name="again", security=asked), pod.config)

    with refused(INVALID, "localhost_ref"):
        create("missing.json")
    cri.start(create("team/no-chmod.json"))
