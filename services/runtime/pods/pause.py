"""The pause process: process 1 of a PID namespace that a pod's containers share. Other pods have none.

Run by the runtime worker. The process is a static binary that waits and reaps, run as an OCI container with an empty
root, no capabilities and a network namespace of its own: containers that see it in /proc gain nothing by it.
"""

from __future__ import annotations

import asyncio
import os

import msgspec

from kernel.contracts.oci import IdRange
from kernel.contracts.runtime import NamespaceMode
from kernel.errors import Internal
from kernel.host import files, pidfd, process
from kernel.host.aio import Deadline
from services.runtime.context import Context
from services.runtime.pods.pod_state import Pod
from services.runtime.programs import oci_runtime
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.spec import mapping, user_namespace_spec


def plan(pod: Pod, binary: str) -> dict[str, object]:
    """Return the OCI specification of the pause process. Pure."""
    request, folder, ids = pod.request, pod.folder, pod.request.user_namespace
    namespaces = [{"type": "mount"}, {"type": "pid"}, {"type": "network"}]
    if request.ipc is not NamespaceMode.NODE:
        namespaces.append({"type": "ipc", "path": str(folder.ipc)})
    if request.network is not NamespaceMode.NODE:
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
            # crun needs one
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/pause", "type": "bind", "source": binary, "options": ["bind", "ro", "nosuid", "nodev"]},
        ],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": pod.cgroup.oci_pause(pod.id),
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/sys"],
        },
    }  # fmt: skip
    return spec if ids is None else {**spec, "linux": user_namespace_spec.linux(spec["linux"], ids, str(folder.user))}


def _nobody(ids: IdRange | None) -> int:
    """Return the id of the user nobody, or root's if the pod's user namespace lacks it: root has no capability here."""
    return 65534 if ids is None or mapping.has(ids, 65534) else 0


async def start(context: Context, pod: Pod, runtime: OciRuntime, deadline: Deadline) -> pidfd.Identity:
    """Start the pause process; Internal with the OCI runtime's message if it does not come up."""
    binary = os.path.realpath(context.config.runtime.pause)
    await remove(context, pod, runtime, deadline)
    await asyncio.to_thread(_write, pod, msgspec.json.encode(plan(pod, binary)))
    folder = pod.folder.pause
    log, pid_file = folder / "runtime.log", folder / "pidfile"
    words = ["run", "--detach", "--bundle", str(folder), "--pid-file", str(pid_file), pod.id]
    # not with captured output: the pause process would hold the pipes open
    started = process.launch(runtime.command(*words, log=log))
    async with process.ended_with_body(started), deadline.limit(f"pod {pod.id}: pause process"):
        code = await started.wait()
    found = pidfd.identify(int(pid_file.read_text())) if code == 0 else None
    if found is None:
        reason = oci_runtime.error_text(log) or process.describe(code)
        raise Internal(f"pod {pod.id}: the pause process {binary} did not start: {reason}")
    return found


async def remove(context: Context, pod: Pod, runtime: OciRuntime, deadline: Deadline) -> None:
    """Kill the pause process and remove its cgroup and the OCI runtime's state of it; none is success."""
    path = pod.cgroup.pause(pod.id)
    await context.cgroups.kill([path], deadline)
    if pod.cgroup.driver == "systemd":
        await runtime.delete(pod.id, deadline)
    await asyncio.to_thread(context.cgroups.remove, path)
    await asyncio.to_thread(runtime.forget, pod.id)


def _write(pod: Pod, spec: bytes) -> None:
    """Write the bundle of the pause process."""
    rootfs, ids = pod.folder.pause / "rootfs", pod.request.user_namespace
    rootfs.mkdir(mode=0o755, parents=True, exist_ok=True)
    if ids is not None:  # the namespace's root makes the mount points in it
        os.chown(rootfs, *ids.root)
    pod.folder.pause.chmod(0o711)
    files.replace(pod.folder.pause / "config.json", spec, durable=False)
