from __future__ import annotations

from pathlib import Path

from kernel.config.sections import Config, Handler, RuntimeSection
from kernel.contracts.runtime import PodRequest
from kernel.ids import SandboxId
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.cgroups.made_cgroups import MadeCgroups
from services.runtime.containers import monitors
from services.runtime.pods.pod_state import Pod
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.bundle import PodBundle, PodRecord

SANDBOX = SandboxId("a" * 64)


def runtime(conmon_cgroup: str) -> OciRuntime:
    handlers = {"runc": Handler(path="/usr/sbin/runc", conmon_cgroup=conmon_cgroup)}
    return OciRuntime("runc", Config(runtime=RuntimeSection(handlers=handlers)), systemd=False)


def test_a_conmon_is_beside_its_container_or_below_the_configured_cgroup(tmp_path: Path) -> None:
    request = PodRequest(sandbox_id=SANDBOX, name="p", namespace="n", uid="u")
    pod = Pod(PodRecord(request=request, cgroup="/kube/pod"), PodBundle(tmp_path, SANDBOX))
    assert monitors.above(runtime(""), pod).path == "/kube/pod"
    assert monitors.above(runtime("/monitors"), pod).path == "/monitors"
    assert monitors.parent_of("/kube/pod/crisp-conmon-1") == "/kube/pod"


def test_a_configured_cgroup_is_made_and_noted_when_the_first_conmon_needs_it(tmp_path: Path) -> None:
    root, state = tmp_path / "cgroup", tmp_path / "state"
    (root / "kube" / "pod").mkdir(parents=True)
    state.mkdir()
    groups = Cgroups(Hierarchies(unified=root, v1={}))
    made = MadeCgroups(state, groups)
    request = PodRequest(sandbox_id=SANDBOX, name="p", namespace="n", uid="u")
    pod = Pod(PodRecord(request=request, cgroup="/kube/pod"), PodBundle(tmp_path, SANDBOX))
    monitors.enter(groups, made, runtime(""), pod, "/kube/pod/crisp-conmon-1")(7)
    assert (root / "kube/pod/crisp-conmon-1/cgroup.procs").read_text() == "7"
    assert not (state / "cgroups.json").exists()
    monitors.enter(groups, made, runtime("/monitors"), pod, "/monitors/crisp-conmon-1")(8)
    assert (root / "monitors/crisp-conmon-1/cgroup.procs").read_text() == "8"
    assert (state / "cgroups.json").read_text() == '["/monitors"]'
