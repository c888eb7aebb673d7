"""Version, Status and RuntimeConfig: answered from memory, whatever a worker does."""

from __future__ import annotations

import json

import msgspec

from kernel.contracts import runtime
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.context import Call, Front
from kernel.version import VERSION

RUNTIME_NAME = "crisp"
_KUBELET_API = "0.1.0"
"""VersionResponse.version: the kubelet's own API, which it expects back."""
_DRIVERS = {"cgroupfs": cri.CGROUPFS, "systemd": cri.SYSTEMD}


async def version(front: Front, request: cri.VersionRequest, call: Call) -> cri.VersionResponse:
    """Serve Version."""
    return cri.VersionResponse(
        version=_KUBELET_API,
        runtime_name=RUNTIME_NAME,
        runtime_version=VERSION,
        runtime_api_version="v1",
    )


async def status(front: Front, request: cri.StatusRequest, call: Call) -> cri.StatusResponse:
    """Serve Status: the conditions RuntimeReady and NetworkReady with reasons, the runtime handlers, and features.

    If `verbose`, `info` has the configuration and the state of storage, workers and records as JSON.
    """
    replica = front.replica
    conditions = [
        _condition("RuntimeReady", *_why_runtime_is_not_ready(front)),
        _condition("NetworkReady", *_why_network_is_not_ready(front)),
    ]
    reply = cri.StatusResponse(
        status=cri.RuntimeStatus(conditions=conditions),
        runtime_handlers=_handlers(replica.platform, front.config.runtime.default_handler),
        features=cri.RuntimeFeatures(
            supplemental_groups_policy=True, mount_options=True, user_namespaces_host_network=True
        ),
    )
    if request.verbose:
        reply.info["config"] = msgspec.json.encode(front.config).decode()
        measured = front.images.fs_info
        reply.info["storage"] = json.dumps({"driver": measured.driver if measured else "not known yet"})
        reply.info["workers"] = json.dumps({"down": replica.down})
        reply.info["state"] = json.dumps(
            {"damaged": replica.damaged, "sandboxes": len(replica.sandboxes), "containers": len(replica.containers)}
        )
    return reply


async def runtime_config(front: Front, request: cri.RuntimeConfigRequest, call: Call) -> cri.RuntimeConfigResponse:
    """Serve RuntimeConfig: the cgroup driver, as the runtime worker has found it."""
    driver = _DRIVERS[(await front.platform(call.deadline)).cgroup_driver]
    return cri.RuntimeConfigResponse(linux=cri.LinuxRuntimeConfiguration(cgroup_driver=driver))


def _condition(kind: str, reason: str, message: str) -> cri.RuntimeCondition:
    """Return a RuntimeCondition, which is true if there is no reason against it."""
    return cri.RuntimeCondition(type=kind, status=not reason, reason=reason, message=message)


def _why_runtime_is_not_ready(front: Front) -> tuple[str, str]:
    """Return the reason (RuntimeCondition.reason) and message why no pod can run now; both are empty if one can."""
    replica = front.replica
    for worker in ("runtime", "storage"):
        if worker in replica.down:
            return "WorkerDown", f"the {worker} worker is down: {replica.down[worker]}"
    if replica.platform is None:
        return "RuntimeNotAsked", "the runtime worker has not answered yet"
    default = front.config.runtime.default_handler
    if default not in {handler.name for handler in replica.platform.handlers}:
        return "HandlerMissing", f"the default runtime handler {default!r} was not found"
    if replica.platform.missing and not replica.platform.handlers:
        return "ProgramMissing", ", ".join(replica.platform.missing)
    return "", ""


def _why_network_is_not_ready(front: Front) -> tuple[str, str]:
    """Return the reason and message why no pod can get a network now; both are empty if one can."""
    replica = front.replica
    if "network" in replica.down:
        return "WorkerDown", f"the network worker is down: {replica.down['network']}"
    if not replica.network.ready:
        return replica.network.reason or "NetworkNotReady", replica.network.message
    return "", ""


def _handlers(platform: runtime.Platform | None, default: str) -> list[cri.RuntimeHandler]:
    """Return a RuntimeHandler for each that was found, and the default one also under the empty name."""
    found: list[cri.RuntimeHandler] = []
    for handler in platform.handlers if platform else ():
        features = cri.RuntimeHandlerFeatures(
            recursive_read_only_mounts=handler.recursive_read_only_mounts, user_namespaces=handler.user_namespaces
        )
        names = ("", handler.name) if handler.name == default else (handler.name,)
        found.extend(cri.RuntimeHandler(name=name, features=features) for name in names)
    return found
