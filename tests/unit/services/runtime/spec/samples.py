"""A pod, a container and a host to make OCI specifications of, and what the tests of `spec` do with them."""

from __future__ import annotations

from typing import cast

import msgspec

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.ids import ContainerId, SandboxId
from services.runtime.spec import oci_spec
from services.runtime.spec.inputs import Defaults, Host, Place, Spec
from services.runtime.spec.oci_mounts import Sources
from services.runtime.spec.security_context.capabilities import NAMES
from services.runtime.spec.security_context.user import User

POD = PodRequest(
    sandbox_id=SandboxId("a" * 64), name="pod", namespace="ns", uid="u", hostname="host1",
    sysctls={"net.ipv4.ip_forward": "1"},
)  # fmt: skip
IMAGE = ImageConfig(
    entrypoint=("/entry", "-e"), cmd=("c1", "c2"), env=("A=1", "PATH=/x", "broken"), working_dir="rel/dir"
)
REQUEST = CreateRequest(
    container_id=ContainerId("c" * 64), sandbox_id=POD.sandbox_id, name="box", attempt=0, image=IMAGE, image_name="box",
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
    """Return the specification of the sample container, or of one with other parts."""
    return oci_spec.plan(pod, request, User(uid=1, gid=2, supplemental_groups=(2, 3)), host, place, DEFAULTS)


def part(spec: Spec, *names: str) -> Spec:
    """Return a part of a specification by the names that lead to it."""
    for name in names:
        spec = cast("Spec", spec[name])
    return spec


def change(**fields: object) -> CreateRequest:
    """Return the sample container with other fields."""
    return msgspec.structs.replace(REQUEST, **fields)


def differing(host: Host, **fields: object) -> Host:
    """Return the host with other fields."""
    return Host(**{**{name: getattr(host, name) for name in Host.__slots__}, **fields})
