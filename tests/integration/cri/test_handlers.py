"""Runtime handlers and the configuration read again: a daemon whose configuration changes while a pod runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import grpc
import psutil
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import outcome, pod_config, refused
from tests.harness.host import until

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def settings(daemon):
    """The daemon's configuration to change; afterwards as it was."""
    before = dict(daemon.config)
    daemon.config = {**before, "runtime": {**before["runtime"], "handlers": dict(before["runtime"]["handlers"])}}
    yield daemon.config
    daemon.config = before
    daemon.write_config()
    daemon.command("reload")


def handler_names(cri) -> set[str]:
    return {one.name for one in cri.status().runtime_handlers}


def test_a_handler_is_added_without_a_restart_and_nobody_notices(cri, pods, daemon, settings):
    pod = pods()
    container = pod.shell("sleep 600")
    before = cri.pid(container)
    settings["runtime"]["handlers"]["extra"] = {
        "path": shutil.which("runc", path="/usr/sbin:/usr/bin"), "allowed_annotations": ["run.oci/"],
        "default_annotations": {"from.config/a": "b"}, "min_memory": 1 << 20,
    }  # fmt: skip
    daemon.write_config()
    assert "runtime.handlers" in daemon.command("reload").stdout
    until("the handler is listed", lambda: "extra" in handler_names(cri), 10)
    assert cri.pid(container) == before
    assert cri.output(container, "echo", "on").strip() == "on"
    config = pod_config(daemon.logs, annotations={"run.oci/x": "passes", "evil/y": "does not"})
    other = pods(config, handler="extra")
    made = other.create("true", annotations={"run.oci/z": "1"})
    said = cri.info(made)["runtimeSpec"]["annotations"]
    origins = cri.info(made)["provenance"]
    assert origins["annotations.run.oci/z"] == "request"
    assert origins["annotations.from.config/a"] == "configuration"
    assert origins["process.args"] == "request"
    assert (said["run.oci/x"], said["run.oci/z"], said["from.config/a"]) == ("passes", "1", "b")
    assert "evil/y" not in said
    assert (daemon.run / "extra-state").is_dir()
    settings["runtime"]["handlers"].pop("extra")
    daemon.write_config()
    done = daemon.command("reload", check=False)
    assert done.returncode != 0
    assert "extra" in done.stderr
    assert "uses it" in done.stderr
    other.remove()


def test_host_devices_can_be_withheld_from_privileged_containers(cri, pods, daemon, settings):
    settings["runtime"]["handlers"]["plain"] = {
        "path": settings["runtime"]["handlers"]["runc"]["path"], "privileged_without_host_devices": True,
    }  # fmt: skip
    daemon.write_config()
    daemon.command("reload")
    privileged = pb.LinuxSandboxSecurityContext(privileged=True)
    seen = {}
    for handler in ("runc", "plain"):
        config = pod_config(daemon.logs)
        config.linux.security_context.MergeFrom(privileged)
        pod = pods(config, handler=handler)
        mighty = pb.LinuxContainerSecurityContext(privileged=True)
        container = pod.shell(
            "sleep 600", linux=pb.LinuxContainerConfig(security_context=mighty),
            devices=[pb.Device(host_path="/dev/null", container_path="/dev/asked", permissions="rw")],
        )  # fmt: skip
        seen[handler] = set(cri.output(container, "ls", "/dev").split())
        pod.remove()
    assert "asked" in seen["plain"]
    assert seen["runc"] > seen["plain"]
    assert "kmsg" not in seen["plain"]


WRAPPER = """#!/bin/sh
set -e
case "$*" in *" create "*) env > {out}/env; sleep "$(cat {out}/delay)";; esac
exec {runtime} "$@"
"""


@pytest.mark.parametrize("beneath", ["runc", "crun"])
def test_any_oci_runtime_by_its_path_with_a_root_a_monitor_and_a_profile_of_its_own(
    cri, pods, daemon, settings, beneath
):
    out = daemon.folder / f"wrapped-{beneath}"
    out.mkdir()
    wrapper = out / "oci"
    wrapper.write_text(WRAPPER.format(out=out, runtime=settings["runtime"]["handlers"][beneath]["path"]))
    wrapper.chmod(0o755)
    monitor = out / "conmon-of-its-own"
    monitor.symlink_to(shutil.which("conmon", path="/usr/bin:/usr/sbin"))
    profile = out / "seccomp.json"
    no_rename = {"names": ["rename", "renameat", "renameat2"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [no_rename]}))
    (out / "delay").write_text("0")
    name = f"wrapped-{beneath}"
    settings["runtime"]["handlers"][name] = {
        "path": str(wrapper), "root": str(out / "state"), "conmon": str(monitor), "conmon_env": {"MINE": "yes"},
        "conmon_cgroup": f"{daemon.cgroup_parent}-monitors", "seccomp_profile": str(profile), "create_timeout": 2,
    }  # fmt: skip
    daemon.write_config()
    daemon.command("reload")
    pod = pods(handler=name)
    default = pb.LinuxContainerSecurityContext(
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault)
    )
    container = pod.shell("echo x > /a; sleep 600", security=default)
    assert (out / "state" / container).is_dir()
    assert "MINE=yes" in (out / "env").read_text().splitlines()
    assert cri.exec(container, "mv", "/a", "/b").exit_code != 0  # by the handler's own RuntimeDefault
    (conmon,) = [one for one in psutil.process_iter(["exe", "cmdline"]) if container in (one.info["cmdline"] or [])]
    assert conmon.cmdline()[0] == str(monitor)
    at = Path(f"/proc/{conmon.pid}/cgroup").read_text()
    assert f"{daemon.cgroup_parent}-monitors/crisp-conmon-{container}" in at
    assert f"{daemon.cgroup_parent}-monitors" not in Path(f"/proc/{cri.pid(container)}/cgroup").read_text()
    assert not [line for line in daemon.command("doctor", check=False).stdout.splitlines() if "monitors" in line]
    plain = pods().shell("echo x > /a; sleep 600", security=default)
    assert cri.exec(plain, "mv", "/a", "/b").exit_code == 0
    (out / "delay").write_text("20")
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "create"):
        pod.create("true")
    assert [one.id for one in cri.list_containers(pod_sandbox_id=pod.id)] == [container]
    (out / "delay").write_text("0")
    pod.remove()
    assert host.cgroups(f"{daemon.cgroup_parent}-monitors") == []
    # Later versions of crun keep compiled seccomp filters there, for all containers.
    assert [path for path in (out / "state").iterdir() if path.name != ".cache"] == []


def test_a_bad_file_keeps_the_old_configuration(cri, daemon, settings):
    daemon.config_file.write_text("root: [1\n")
    hang_up(daemon, "crisp-supervisor")
    until("the error is logged", lambda: "the configuration stays as it was" in daemon.tail(200), 10)
    assert handler_names(cri) >= {"", "runc", "crun"}
    settings["root"] = "/elsewhere"
    daemon.write_config()
    done = daemon.command("reload", check=False)
    assert done.returncode != 0
    assert "'root' cannot change" in done.stderr
    assert not handler_names(cri) - {"", "runc", "crun"}


def test_sighup_reads_it_again(cri, daemon, settings):
    settings["runtime"]["default_handler"] = "crun"
    daemon.write_config()
    hang_up(daemon, "crisp-spawner")
    until("crun is the default", lambda: default_handler(cri) == "crun", 20)


def hang_up(daemon, name: str) -> None:
    os.kill(next(one for one in daemon.own_processes() if one.name() == name).pid, signal.SIGHUP)


def default_handler(cri) -> str:
    """As the front has it; empty while it is away."""
    said = outcome(lambda: cri.status(verbose=True))
    return "" if isinstance(said, grpc.RpcError) else json.loads(said.info["config"])["runtime"]["default_handler"]


@pytest.mark.parametrize(("handler", "least"), [("runc", 12 << 20), ("crun", 500 << 10)])
def test_a_memory_limit_in_which_nothing_starts_is_refused(pods, cri, handler, least):
    pod = pods(handler=handler)
    small = pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(memory_limit_in_bytes=least - 1))
    with refused(INVALID, "memory_limit_in_bytes", str(least)):
        pod.create("true", linux=small)
    container = pod.shell("sleep 600")
    with refused(INVALID, "memory_limit_in_bytes", str(least)):
        cri.call(
            "UpdateContainerResources", container_id=container,
            linux=pb.LinuxContainerResources(memory_limit_in_bytes=least - 1),
        )  # fmt: skip


def test_a_handler_that_is_not_there_is_refused(pods):
    with refused(INVALID, "runtime_handler"):
        pods(handler="../../bin/sh")
