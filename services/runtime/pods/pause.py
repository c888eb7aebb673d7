"""Process 1 of a PID namespace that a pod's containers share; pods that share none have no such process.

A static binary that waits and reaps, run as an OCI container with an empty root, no capabilities and a network
namespace of its own: containers that can see it in /proc gain nothing by it.
"""

from __future__ import annotations

import asyncio
import os

import msgspec

from kernel.contracts.oci import IdMap, IdRange
from kernel.contracts.runtime import NamespaceMode
from kernel.errors import Internal
from kernel.host import pidfd, process
from kernel.host.aio import Deadline
from kernel.ids import SandboxId
from services.runtime.cgroups.cgroup_path import PodCgroup
from services.runtime.context import Setting
from services.runtime.namespaces import user_namespace
from services.runtime.programs import oci_runtime
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records import bundle
from services.runtime.records.bundle import PodBundle, PodRecord
from services.runtime.spec import user_namespace_spec


def plan(record: PodRecord, folder: PodBundle, cgroup: PodCgroup, binary: str) -> dict[str, object]:
    """The OCI specification of the pause process. Pure."""
    ids = record.request.user_namespace
    namespaces = [{"type": "mount"}, {"type": "pid"}, {"type": "network"}]
    if record.request.ipc is not NamespaceMode.NODE:
        namespaces.append({"type": "ipc", "path": str(folder.ipc)})
    if record.request.network is not NamespaceMode.NODE:
        namespaces.append({"type": "uts", "path": str(folder.uts)})
    none: list[str] = []
    spec: dict[str, object] = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": _nobody(ids.uids if ids else None), "gid": _nobody(ids.gids if ids else None)},
            "args": ["/pause", "-P"],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), none),
        },
        "root": {"path": str(folder.pause / "rootfs"), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            # crun wants one
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/pause", "type": "bind", "source": binary, "options": ["bind", "ro", "nosuid", "nodev"]},
        ],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": cgroup.oci_pause(record.request.sandbox),
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/sys"],
        },
    }  # fmt: skip
    return spec if ids is None else {**spec, "linux": user_namespace_spec.linux(spec["linux"], ids, str(folder.user))}


def _nobody(ids: IdRange | None) -> int:
    """Nobody; root, which has no capability here, where the pod's user namespace has no nobody."""
    return 65534 if ids is None or user_namespace.maps(ids, 65534) else 0


async def start(
    setting: Setting, record: PodRecord, folder: PodBundle, cgroup: PodCgroup, runtime: OciRuntime, deadline: Deadline
) -> pidfd.Identity:
    """Run the pause process; Internal with the OCI runtime's words where it does not come up."""
    sandbox = record.request.sandbox
    binary = os.path.realpath(setting.config.runtime.pause)
    await remove(setting, sandbox, cgroup, runtime, deadline)
    spec = msgspec.json.encode(plan(record, folder, cgroup, binary))
    await asyncio.to_thread(_write, folder, spec, record.request.user_namespace)
    log, pid_file = folder.pause / "runtime.log", folder.pause / "pidfile"
    words = ["run", "--detach", "--bundle", str(folder.pause), "--pid-file", str(pid_file), sandbox]
    # not with captured output: the pause process would hold the pipes open
    started = process.launch(runtime.command(*words, log=log))
    try:
        async with deadline.limit(f"pod {sandbox}: pause process"):
            code = await started.wait()
    finally:
        if started.returncode is None:
            process.kill_group(started)
            await started.wait()
    found = pidfd.identify(int(pid_file.read_text())) if code == 0 else None
    if found is None:
        reason = oci_runtime.error_text(log) or process.describe(code)
        raise Internal(f"pod {sandbox}: the pause process {binary} did not start: {reason}")
    return found


async def remove(
    setting: Setting, sandbox: SandboxId, cgroup: PodCgroup, runtime: OciRuntime, deadline: Deadline
) -> None:
    """Kill the pause process and forget it; gone already is success."""
    path = cgroup.pause(sandbox)
    await setting.cgroups.kill([path], deadline)
    if cgroup.driver == "systemd":
        await runtime.delete(sandbox, deadline)
    await asyncio.to_thread(setting.cgroups.remove, path)
    await asyncio.to_thread(runtime.forget, sandbox)


def _write(folder: PodBundle, spec: bytes, ids: IdMap | None) -> None:
    rootfs = folder.pause / "rootfs"
    rootfs.mkdir(mode=0o755, parents=True, exist_ok=True)
    if ids is not None:  # mount points are made in it by the namespace's root
        os.chown(rootfs, *ids.root)
    folder.pause.chmod(0o711)
    bundle.write(folder.pause / "config.json", spec)
