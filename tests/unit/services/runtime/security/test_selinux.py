from __future__ import annotations

from pathlib import Path

import pytest

from kernel.contracts.runtime import SelinuxOptions
from kernel.errors import FailedPrecondition, InvalidInput
from services.runtime.security import selinux
from services.runtime.security.selinux import Policy, Selinux

CONTEXTS = """process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file="system_u:object_r:container_ro_file_t:s0"
"""
POLICY = Policy(process="system_u:system_r:container_t:s0", file="system_u:object_r:container_file_t:s0")


def test_the_nodes_policy() -> None:
    assert selinux.policy(CONTEXTS) == POLICY
    for text in ("", 'process = "x"', 'process = "a:b:c:s0"'):
        with pytest.raises(FailedPrecondition, match="lxc_contexts"):
            selinux.policy(text)


@pytest.mark.parametrize(
    ("options", "privileged", "process", "mount"),
    [
        (None, False, "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"),
        (None, True, "", ""),
        (SelinuxOptions(level="s0:c7"), False, "system_u:system_r:container_t:s0:c7",
         "system_u:object_r:container_file_t:s0:c7"),
        (SelinuxOptions(user="u", role="r", type="spc_t"), True, "u:r:spc_t:s0:c1,c2",
         "system_u:object_r:container_file_t:s0:c1,c2"),
    ],
)  # fmt: skip
def test_labels(options: SelinuxOptions | None, privileged: bool, process: str, mount: str) -> None:
    assert selinux.labels(POLICY, options, "s0:c1,c2", privileged=privileged) == (process, mount)


def test_each_number_is_another_pair_of_two_categories() -> None:
    assert selinux.numbered_level(0) == "s0:c0,c1"
    assert selinux.numbered_level(1022) == "s0:c0,c1023"
    assert selinux.numbered_level(1023) == "s0:c1,c2"
    assert selinux.numbered_level(1024 * 1023 // 2 - 1) == "s0:c1022,c1023"
    assert len({selinux.numbered_level(number) for number in range(20_000)}) == 20_000


def test_no_two_pods_share_a_level() -> None:
    first = selinux.draw("a" * 64, frozenset())
    second = selinux.draw("a" * 64, frozenset({first}))
    assert first == selinux.draw("a" * 64, frozenset())
    assert second not in ("", first)


def host(folder: Path, *, enabled: bool = True) -> Selinux:
    """A host with a policy, as files; two pods."""
    for pod in ("one", "two"):
        (folder / "pods" / pod).mkdir(parents=True)
    (folder / "etc" / "mine" / "contexts").mkdir(parents=True)
    (folder / "etc" / "config").write_text("# x\nSELINUX=enforcing\nSELINUXTYPE=mine\n")
    (folder / "etc" / "mine" / "contexts" / "lxc_contexts").write_text(CONTEXTS)
    (folder / "fs").mkdir()
    if enabled:
        (folder / "fs" / "enforce").write_text("1")
    return Selinux(folder / "pods", folder / "fs", folder / "etc")


def test_a_pod_keeps_its_level(tmp_path: Path) -> None:
    part = host(tmp_path)
    one = part.labels("one", None, privileged=False)
    assert one[0].startswith("system_u:system_r:container_t:s0:c")
    assert one == part.labels("one", None, privileged=False)
    assert one != part.labels("two", None, privileged=False)
    again = Selinux(tmp_path / "pods", tmp_path / "fs", tmp_path / "etc")
    assert again.labels("one", None, privileged=False) == one


def test_options_without_selinux_are_an_error_and_none_are_not(tmp_path: Path) -> None:
    part = host(tmp_path, enabled=False)
    assert part.labels("one", None, privileged=False) == ("", "")
    with pytest.raises(FailedPrecondition, match=r"linux\.security_context\.selinux_options"):
        part.labels("one", SelinuxOptions(type="spc_t"), privileged=False)


def test_a_policy_without_containers_is_told(tmp_path: Path) -> None:
    part = host(tmp_path)
    (tmp_path / "etc" / "mine" / "contexts" / "lxc_contexts").unlink()
    with pytest.raises(FailedPrecondition, match="lxc_contexts"):
        part.labels("one", None, privileged=False)


@pytest.mark.parametrize("source", ["/", "/etc", "/etc/ssl", "/usr/lib", "/home", "/var", "/proc/1", "/sys/fs", "/tmp"])
def test_the_hosts_own_folders_are_not_relabelled(source: str) -> None:
    with pytest.raises(InvalidInput, match=r"mounts\[3\]\.selinux_relabel"):
        selinux.check_relabel(3, source)


def test_volumes_are_relabelled() -> None:
    for source in ("/var/lib/kubelet/pods/x", "/home/me/data", "/data", "/tmp/x"):
        selinux.check_relabel(0, source)
