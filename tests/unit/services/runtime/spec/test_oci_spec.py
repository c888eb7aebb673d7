from __future__ import annotations

from typing import cast

import msgspec
import pytest

from kernel.contracts import oci
from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, NamespaceMode, PodRequest, Resources, Security
from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.spec import oci_spec
from services.runtime.spec.capabilities import NAMES
from services.runtime.spec.oci_mounts import Sources
from services.runtime.spec.oci_spec import Defaults, DeviceNode, Host, Place, Spec
from services.runtime.spec.user import User

POD = PodRequest(
    sandbox=SandboxId("a" * 64), name="pod", namespace="ns", uid="u", hostname="host1",
    sysctls={"net.ipv4.ip_forward": "1"},
)  # fmt: skip
IMAGE = ImageConfig(
    entrypoint=("/entry", "-e"), cmd=("c1", "c2"), env=("A=1", "PATH=/x", "broken"), working_dir="rel/dir"
)
REQUEST = CreateRequest(
    container=ContainerId("c" * 64), sandbox=POD.sandbox, name="box", attempt=0, image=IMAGE, image_name="box",
    image_ref="box",
)  # fmt: skip
HOST = Host(
    unified=False, controllers=frozenset({"cpu", "memory", "pids"}), swap_accounting=True, bounding=frozenset(NAMES),
    oom_score_adj=-500, may_lower_oom_score=False, hostname="thehost",
)  # fmt: skip
PLACE = Place(
    rootfs="/root", cgroups_path="/crisp/x", netns="/n/net", ipc="/n/ipc", uts="/n/uts",
    sources=Sources(shm="/shm", resolv_conf="/resolv", hostname="/hostname"),
)  # fmt: skip
DEFAULTS = Defaults(capabilities=("CHOWN",), pids_limit=0)


def plan(request: CreateRequest = REQUEST, pod: PodRequest = POD, host: Host = HOST, place: Place = PLACE) -> Spec:
    return oci_spec.plan(pod, request, User(uid=1, gid=2, supplemental_groups=(2, 3)), host, place, DEFAULTS)


def part(spec: Spec, *names: str) -> Spec:
    for name in names:
        spec = cast("Spec", spec[name])
    return spec


def change(**fields: object) -> CreateRequest:
    return msgspec.structs.replace(REQUEST, **fields)


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        ((), (), ["/entry", "-e", "c1", "c2"]),
        (("x",), (), ["x"]),
        ((), ("a",), ["/entry", "-e", "a"]),
        (("x",), ("a", "b"), ["x", "a", "b"]),
    ],
)
def test_command_replaces_entrypoint_and_args_replace_cmd(
    command: tuple[str, ...], args: tuple[str, ...], words: list[str]
) -> None:
    assert oci_spec.arguments(change(command=command, args=args)) == words


@pytest.mark.parametrize("command", [(), ("",), ("a\0b",), ("x" * 3_000_000,)])
def test_a_command_that_cannot_be(command: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="command"):
        oci_spec.arguments(change(command=command, image=ImageConfig()))


def test_environment_of_the_image_then_of_the_request() -> None:
    env = oci_spec.environment(POD, change(envs=(("A", "2"), ("B", "x=y\nz")), tty=True), HOST)
    assert env == ["PATH=/x", "HOSTNAME=host1", "TERM=xterm", "A=2", "B=x=y\nz"]
    plain = oci_spec.environment(POD, change(image=ImageConfig()), HOST)
    assert plain == [f"PATH={oci_spec.PATH}", "HOSTNAME=host1"]


@pytest.mark.parametrize("env", [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "\0"), ("HOME", "/x\ny:z")])
def test_a_variable_that_cannot_be(env: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput, match="envs"):
        oci_spec.environment(POD, change(envs=(env,)), HOST)


def test_working_directory() -> None:
    assert oci_spec.working_dir(REQUEST) == "/rel/dir"
    assert oci_spec.working_dir(change(working_dir="//a/../b/")) == "/b"
    assert oci_spec.working_dir(change(image=ImageConfig())) == "/"
    for path in ("rel", "/proc/self/fd/7", "/x/../proc/1/root", "/proc/thread-self/cwd"):
        with pytest.raises(InvalidInput, match="working_dir"):
            oci_spec.working_dir(change(working_dir=path))
    with pytest.raises(InvalidInput, match="WorkingDir"):
        oci_spec.working_dir(change(image=ImageConfig(working_dir="/proc/self/fd/8")))


def test_the_process() -> None:
    process = part(plan(), "process")
    assert process["user"] == {"uid": 1, "gid": 2, "additionalGids": [2, 3]}
    assert process["oomScoreAdj"] == 0
    capabilities = part(process, "capabilities")
    assert capabilities["bounding"] == capabilities["effective"] == ["CAP_CHOWN"]
    assert capabilities["inheritable"] == capabilities["ambient"] == []


def test_the_oom_score_is_not_below_what_the_kernel_allows() -> None:
    asked = change(resources=Resources(oom_score_adj=-998))
    assert part(plan(asked), "process")["oomScoreAdj"] == -500
    able = differing(HOST, may_lower_oom_score=True)
    assert part(plan(asked, host=able), "process")["oomScoreAdj"] == -998
    with pytest.raises(InvalidInput, match="oom_score_adj"):
        plan(change(resources=Resources(oom_score_adj=-2000)))


def differing(host: Host, **fields: object) -> Host:
    return Host(**{**{name: getattr(host, name) for name in Host.__slots__}, **fields})


def namespaces(spec: Spec) -> dict[str, str]:
    return {
        entry["type"]: entry.get("path", "")
        for entry in cast("list[dict[str, str]]", part(spec, "linux")["namespaces"])
    }


def test_namespaces() -> None:
    assert namespaces(plan()) == {"mount": "", "network": "/n/net", "uts": "/n/uts", "ipc": "/n/ipc", "pid": ""}
    pod = msgspec.structs.replace(POD, network=NamespaceMode.NODE, ipc=NamespaceMode.NODE, sysctls={})
    assert namespaces(plan(change(security=Security(pid=NamespaceMode.NODE)), pod)) == {"mount": ""}
    joined = Place(**{**{name: getattr(PLACE, name) for name in Place.__slots__}, "pid": "/proc/7/ns/pid"})
    assert namespaces(plan(change(security=Security(pid=NamespaceMode.POD)), place=joined))["pid"] == "/proc/7/ns/pid"
    v2 = differing(HOST, unified=True)
    assert "cgroup" in namespaces(plan(host=v2))


def test_the_hosts_name_in_a_pod_on_its_network() -> None:
    pod = msgspec.structs.replace(POD, network=NamespaceMode.NODE, sysctls={})
    assert oci_spec.hostname(pod, HOST) == "thehost"


def test_masked_and_read_only_paths() -> None:
    linux = part(plan(), "linux")
    assert linux["maskedPaths"] == list(oci.MASKED_PATHS)
    assert linux["readonlyPaths"] == list(oci.READONLY_PATHS)
    linux = part(plan(change(security=Security(masked_paths=(), readonly_paths=("/a",)))), "linux")
    assert (linux["maskedPaths"], linux["readonlyPaths"]) == ([], ["/a"])
    for path in ("", "a", "/a/../b", "/a/"):
        with pytest.raises(InvalidInput, match=r"masked_paths\[0\]"):
            plan(change(security=Security(masked_paths=(path,))))


def test_a_privileged_container() -> None:
    node = DeviceNode(path="/dev/x", kind="c", major=1, minor=2, mode=0o600, uid=0, gid=0)
    place = Place(**{**{name: getattr(PLACE, name) for name in Place.__slots__}, "devices": (node,)})
    spec = plan(change(security=Security(privileged=True)), place=place)
    linux = part(spec, "linux")
    assert "maskedPaths" not in linux
    assert part(linux, "resources")["devices"] == [{"allow": True, "access": "rwm"}]
    assert len(cast("list[str]", part(spec, "process", "capabilities")["bounding"])) == len(NAMES)
    plain = cast("list[Spec]", part(plan(place=place), "linux", "resources")["devices"])
    assert [rule["allow"] for rule in plain] == [False, True]


def test_resources() -> None:
    asked = Resources(
        cpu_period=100000, cpu_quota=50000, cpu_shares=512, memory_limit_in_bytes=1 << 20, cpuset_cpus="0-1",
        hugepage_limits={"2MB": 0},
    )  # fmt: skip
    found = oci_spec.resources(asked, PLACE, HOST, Defaults(capabilities=(), pids_limit=10))
    assert found["cpu"] == {"shares": 512, "quota": 50000, "period": 100000}
    assert found["memory"] == {"limit": 1 << 20, "swap": 1 << 20}
    assert found["pids"] == {"limit": 10}
    assert "hugepageLimits" not in found  # this host has no such controller
    able = differing(HOST, swap_accounting=False, controllers=frozenset({"hugetlb", "cpuset", "memory"}))
    found = oci_spec.resources(asked, PLACE, able, Defaults(capabilities=(), pids_limit=10))
    assert (found["cpu"], found["memory"]) == ({"cpus": "0-1"}, {"limit": 1 << 20})
    assert found["hugepageLimits"] == [{"pageSize": "2MB", "limit": 0}]
    assert "pids" not in found
    none = differing(HOST, controllers=frozenset())
    assert set(oci_spec.resources(asked, PLACE, none, DEFAULTS)) == {"devices"}
    assert set(oci_spec.resources(Resources(), PLACE, HOST, DEFAULTS)) == {"devices"}


@pytest.mark.parametrize(
    "asked",
    [
        Resources(cpu_shares=-1), Resources(cpu_quota=-2), Resources(memory_limit_in_bytes=2**63 - 1),
        Resources(cpuset_cpus="0;1"), Resources(hugepage_limits={"../x": 1}),
        Resources(unified={"../cgroup.procs": "1"}),
        Resources(unified={"memory.max\n": "1"}), Resources(unified={"memory.max": "1"}),
    ],
)  # fmt: skip
def test_limits_that_cannot_be(asked: Resources) -> None:
    with pytest.raises(InvalidInput, match=r"linux\.resources\."):
        oci_spec.resources(asked, PLACE, HOST, DEFAULTS)


def test_annotations_that_could_switch_the_runtime_are_left_out() -> None:
    given = {"run.oci.handler": "krun", "org.systemd.property.X": "'y'", "io.kubernetes.container.hash": "1",
             "io.kubernetes.cri.sandbox-id": "forged", "io.kubernetes.cri-o.Spoofed": "1"}  # fmt: skip
    annotations = part(plan(change(annotations=given)), "annotations")
    assert annotations["io.kubernetes.container.hash"] == "1"
    assert annotations["io.kubernetes.cri.sandbox-id"] == POD.sandbox
    assert not {"run.oci.handler", "org.systemd.property.X", "io.kubernetes.cri-o.Spoofed"} & set(annotations)


def test_sysctls_go_into_the_container() -> None:
    assert part(plan(), "linux")["sysctl"] == {"net.ipv4.ip_forward": "1"}


def test_the_oci_runtime_is_told_the_size_of_the_pod() -> None:
    assert not [key for key in annotations(plan()) if "sandbox-memory" in key or "pod-linux" in key]
    pod = msgspec.structs.replace(
        POD, resources=Resources(cpu_shares=7, memory_limit_in_bytes=9, hugepage_limits={"2MB": 1}),
        overhead=Resources(cpu_quota=5),
    )  # fmt: skip
    said = annotations(plan(pod=pod))
    assert said["io.kubernetes.cri.sandbox-memory"] == "9"
    assert said["io.kubernetes.cri.sandbox-cpu-shares"] == "7"
    assert said["pod-linux-overhead.crio.io"] == '{"cpu_quota":5}'
    assert msgspec.json.decode(said["pod-linux-resources.crio.io"]) == {
        "cpu_shares": 7, "memory_limit_in_bytes": 9, "hugepage_limits": [{"page_size": "2MB", "limit": 1}],
    }  # fmt: skip


def annotations(spec: Spec) -> dict[str, str]:
    return cast("dict[str, str]", spec["annotations"])
