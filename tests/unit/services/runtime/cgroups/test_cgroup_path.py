from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.cgroups import cgroup_path
from services.runtime.cgroups.cgroup_path import PodCgroup, monitors

SANDBOX, CONTAINER = SandboxId("a" * 64), ContainerId("c" * 64)


def test_cgroupfs() -> None:
    own = cgroup_path.pod_cgroup("cgroupfs", "", "/crisp", SANDBOX)
    assert own.path == f"/crisp/{SANDBOX}"
    assert own.oci(CONTAINER) == own.container(CONTAINER) == f"/crisp/{SANDBOX}/crisp-{CONTAINER}"
    given = cgroup_path.pod_cgroup("cgroupfs", "/kubepods/burstable/podX/", "/crisp", SANDBOX)
    assert given.conmon(CONTAINER) == f"/kubepods/burstable/podX/crisp-conmon-{CONTAINER}"


def test_systemd() -> None:
    given = cgroup_path.pod_cgroup("systemd", "/kubepods.slice/kubepods-burstable-podX.slice", "/crisp", SANDBOX)
    assert given.name == "kubepods-burstable-podX.slice"
    assert given.path == "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podX.slice"
    assert given.oci(CONTAINER) == f"kubepods-burstable-podX.slice:crisp:{CONTAINER}"
    assert given.container(CONTAINER) == f"{given.path}/crisp-{CONTAINER}.scope"
    own = cgroup_path.pod_cgroup("systemd", "", "/crisp", SANDBOX)
    assert own.path == f"/crisp.slice/crisp-{SANDBOX}.slice"
    assert cgroup_path.base("systemd", "/crisp") == "/crisp.slice"
    assert own.conmon(CONTAINER) == f"{own.path}/crisp-conmon-{CONTAINER}.scope"


def test_a_record_tells_the_driver_that_it_was_made_with() -> None:
    for driver in ("cgroupfs", "systemd"):
        made = cgroup_path.pod_cgroup(driver, "", "/crisp", SANDBOX)
        assert cgroup_path.of_name(made.name) == made


@pytest.mark.parametrize(
    "parent", ["/", "../..", "/a/../b", "/a//b", "/a/./b", "a b", "/x\n", "/" + "y" * 300, "/a/" * 2000]
)
def test_a_parent_that_is_not_below_the_root(parent: str) -> None:
    with pytest.raises(InvalidInput, match="cgroup_parent"):
        cgroup_path.pod_cgroup("cgroupfs", parent, "/crisp", SANDBOX)


@pytest.mark.parametrize("parent", ["/kubepods/podX", "a.slice/../b", "-.slice", "a--b.slice", ".slice"])
def test_a_parent_that_is_no_slice(parent: str) -> None:
    with pytest.raises(InvalidInput, match="cgroup_parent"):
        cgroup_path.pod_cgroup("systemd", parent, "/crisp", SANDBOX)


def test_levels_and_owners() -> None:
    assert cgroup_path.levels("/a/b/c") == ["/a", "/a/b", "/a/b/c"]
    assert cgroup_path.owner(f"/a/crisp-conmon-{CONTAINER}") == CONTAINER
    assert cgroup_path.owner("/a/b") == ""


def test_a_cgroup_inside_another() -> None:
    assert cgroup_path.inside("/a/x.scope", "1:cpu:/a/x.scope/y\n0::/a/x.scope/container\n") == "/a/x.scope/container"
    assert cgroup_path.inside("/a/x.scope", "0::/a/x.scope\n") == ""
    assert cgroup_path.inside("/a/x", "0::/a/xy/container\n") == ""


def test_monitors_go_to_the_pods_cgroup_or_where_the_configuration_says() -> None:
    fs, sd = PodCgroup(driver="cgroupfs", name="/a/b"), PodCgroup(driver="systemd", name="a-b.slice")
    assert monitors("", fs) is fs
    assert monitors("/mine/x", fs).conmon(ContainerId("c")) == "/mine/x/crisp-conmon-c"
    assert monitors("mine.slice", fs).path == "/mine.slice"
    assert monitors("/mine/x", sd).path == "/mine.slice/mine-x.slice"
    assert monitors("mine.slice", sd).conmon(ContainerId("c")) == "/mine.slice/crisp-conmon-c.scope"


def test_a_parent_is_below_the_roots_of_the_configuration_and_in_no_container() -> None:
    def named(driver: cgroup_path.Driver, parent: str, *roots: str) -> str:
        return cgroup_path.pod_cgroup(driver, parent, "/crisp", SANDBOX, roots).path

    for roots in ((), ("/kubepods",), ("/other", "/kubepods/burstable")):
        assert named("cgroupfs", "/kubepods/burstable/pod1", *roots) == "/kubepods/burstable/pod1"
    assert named("cgroupfs", "kubepods", "/kubepods") == "/kubepods"
    slices = "/kubepods.slice/kubepods-pod1.slice"
    for root in ("kubepods.slice", "/kubepods", "/kubepods.slice"):
        assert named("systemd", "kubepods-pod1.slice", root) == slices
    for driver, parent in (
        ("cgroupfs", "/kubepods2/x"), ("cgroupfs", "/x/kubepods"), ("systemd", "x.slice"),
        ("systemd", "kubepodsx.slice"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match="not below one of /kubepods"):
            named(driver, parent, "/kubepods")  # type: ignore[arg-type]
    for inside in (f"/crisp/crisp-{CONTAINER}", f"/a/crisp-conmon-{CONTAINER}/b"):
        with pytest.raises(InvalidInput, match="inside the cgroup of a container"):
            named("cgroupfs", inside)
    assert named("cgroupfs", "", "/kubepods") == f"/crisp/{SANDBOX}"
