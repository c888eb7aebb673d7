from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import cast

import pytest

from kernel.config.sections import Config, RuntimeSection
from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, PodRequest, Profile, Resources, Security, SelinuxOptions
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId
from services.runtime.context import Context
from services.runtime.security.profiles import Profiles
from services.runtime.spec.inputs import Host
from services.runtime.spec.security_context.confinement import Confinement

POD = PodRequest(sandbox_id=SandboxId("a" * 64), name="pod", namespace="ns", uid="u")
WITHOUT_SELINUX = pytest.mark.skipif(Path("/sys/fs/selinux/enforce").exists(), reason="this host has SELinux")
LOCALHOST = Profile(kind="localhost", ref="own.json", field="the.field")


def profiles(tmp_path: Path, **settings: str) -> Profiles:
    """Return the profiles of a node whose folder of profiles is below `tmp_path`."""
    folder = tmp_path / "seccomp"
    folder.mkdir(exist_ok=True)
    (folder / "own.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_LOG"}))
    section = {"seccomp_root": str(folder), "seccomp_profile": "builtin", **settings}
    config = Config(runtime=RuntimeSection(**section))  # type: ignore[arg-type]

    class Found:
        def __init__(self) -> None:
            self.config = config
            self.root = tmp_path

    return Profiles(cast("Context", Found()))


def request(resources: Resources | None = None, **security: object) -> CreateRequest:
    return CreateRequest(
        container_id=ContainerId("c" * 64), sandbox_id=POD.sandbox_id, name="box", attempt=0, image=ImageConfig(),
        image_name="box", image_ref="box", security=Security(**security), resources=resources or Resources(),  # type: ignore[arg-type]
    )  # fmt: skip


async def find(found: Profiles, asked: CreateRequest, pod: PodRequest = POD) -> Confinement:
    return await found.find(pod, asked, Deadline.after(10))


async def action(found: Profiles, **security: object) -> str:
    """Return the default action of the seccomp profile that a container gets; empty for none."""
    confinement = await find(found, request(**security))
    return confinement.seccomp.default_action if confinement.seccomp else ""


@pytest.mark.skipif(os.geteuid() != 0, reason="files must belong to root")
async def test_seccomp_by_request_and_configuration(tmp_path: Path) -> None:
    plain = profiles(tmp_path)
    assert await action(plain) == ""
    assert await action(plain, seccomp=Profile(kind="unconfined")) == ""
    assert await action(plain, seccomp=Profile(kind="default")) == "SCMP_ACT_ERRNO"
    assert await action(plain, seccomp=LOCALHOST) == "SCMP_ACT_LOG"
    assert await action(plain, seccomp=LOCALHOST, privileged=True) == ""
    own = str(tmp_path / "seccomp" / "own.json")
    strict = profiles(tmp_path, seccomp_profile=own, privileged_seccomp_profile=own, unset_seccomp="default")
    assert await action(strict) == await action(strict, privileged=True) == "SCMP_ACT_LOG"


async def test_a_profile_that_is_not_there_is_the_requests_or_the_nodes_fault(tmp_path: Path) -> None:
    missing = Profile(kind="localhost", ref="none.json", field="the.field")
    with pytest.raises(InvalidInput, match=r"the\.field"):
        await action(profiles(tmp_path), seccomp=missing)
    with pytest.raises(FailedPrecondition, match="/none"):
        await action(profiles(tmp_path, seccomp_profile="/none"), seccomp=Profile(kind="default"))


@WITHOUT_SELINUX
async def test_selinux_options_of_pod_and_container(tmp_path: Path) -> None:
    options = SelinuxOptions(type="spc_t")
    pod = PodRequest(sandbox_id=POD.sandbox_id, name="pod", namespace="ns", uid="u", selinux=options)
    found = profiles(tmp_path)
    assert not found.labelled()
    assert (await find(found, request())).process_label == ""
    for asked, where in ((request(selinux=options), POD), (request(), pod)):
        with pytest.raises(FailedPrecondition, match="selinux_options"):
            await find(found, asked, where)
        assert (await find(profiles(tmp_path, selinux="ignore"), asked, where)).process_label == ""
    assert await found.mount_label(POD, None, privileged=False) == ""


def host(**fields: object) -> Host:
    values = {
        "unified": True, "controllers": frozenset(), "swap_accounting": True, "bounding": frozenset({"CHOWN"}),
        "oom_score_adj": 0, "may_lower_oom_score": False, **fields,
    }  # fmt: skip
    return Host(**values)  # type: ignore[arg-type]


def test_what_the_daemon_cannot_give_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    found = profiles(tmp_path)
    able = request(add_capabilities=("CHOWN",), resources=Resources(oom_score_adj=5))
    found.log_missing(able, host())
    found.log_missing(request(resources=Resources(oom_score_adj=-5)), host(may_lower_oom_score=True))
    assert not caplog.messages
    for _ in range(3):
        found.log_missing(request(add_capabilities=("KILL",)), host())
        found.log_missing(request(resources=Resources(oom_score_adj=-5)), host())
    assert ["CAP_KILL" in caplog.messages[0], "oom_score_adj" in caplog.messages[1]] == [True, True]
    assert len(caplog.messages) == 2
