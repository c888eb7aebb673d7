from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from kernel.config.sections import RuntimeSection
from kernel.contracts.runtime import NamespaceMode, PodRequest
from kernel.errors import InvalidInput
from kernel.ids import SandboxId
from services.runtime.pods import pod_request

CONFIG = RuntimeSection(cgroup_parent="/crisp")
SANDBOX = SandboxId("a" * 64)
REQUEST = PodRequest(sandbox_id=SANDBOX, name="p" * 100, namespace="n", uid="u", hostname="web-1.x_y")


def test_a_pod_has_a_cgroup_of_its_own_or_the_one_that_it_names() -> None:
    assert pod_request.check(REQUEST, CONFIG, "cgroupfs").path == f"/crisp/{SANDBOX}"
    assert pod_request.check(replace(REQUEST, cgroup_parent="/kube/pod1"), CONFIG, "cgroupfs").path == "/kube/pod1"
    assert pod_request.check(REQUEST, CONFIG, "systemd").name == f"crisp-{SANDBOX}.slice"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"handler": "none"}, "runtime_handler: 'none'"),
        ({"hostname": "a b"}, "config.hostname"),
        ({"hostname": "h" * 65}, "config.hostname"),
        ({"dns_servers": ("1.1.1.1", "")}, r"dns_config.servers\[1\]"),
        ({"dns_searches": ("a\nb",)}, r"dns_config.searches\[0\]"),
        ({"dns_options": ("a b",)}, r"dns_config.options\[0\]"),
        ({"cgroup_parent": "/a/../b"}, "cgroup_parent"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        pod_request.check(replace(REQUEST, **fields), CONFIG, "cgroupfs")


def test_the_host_name_is_the_requests_else_the_pods_else_the_hosts() -> None:
    assert pod_request.host_name(REQUEST) == "web-1.x_y"
    assert pod_request.host_name(replace(REQUEST, hostname="")) == "p" * 64
    assert pod_request.host_name(replace(REQUEST, network=NamespaceMode.NODE)) == os.uname().nodename


def test_resolv_conf_has_what_the_request_sets_and_nothing_else() -> None:
    assert pod_request.resolv_conf(REQUEST) == b""
    full = replace(REQUEST, dns_servers=("1.1.1.1", "::1"), dns_searches=("a", "b"), dns_options=("ndots:5", "edns0"))
    assert pod_request.resolv_conf(full) == b"search a b\nnameserver 1.1.1.1\nnameserver ::1\noptions ndots:5 edns0\n"
