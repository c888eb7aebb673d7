"""Version, Status, RuntimeConfig, lists and statuses: answered from memory, whatever a worker does.

Only a verbose ContainerStatus asks the runtime, for the OCI spec that was run.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator

import msgspec

from kernel.contracts import runtime
from kernel.contracts.contract import Nothing
from kernel.contracts.records import Container, ContainerState, Sandbox
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError
from kernel.front.context import Call, Front
from kernel.front.responses import list_filters, protobuf_fields, provenance, views

RUNTIME_NAME = "crisp"
RUNTIME_VERSION = importlib.metadata.version("crisp")
_KUBELET_API = "0.1.0"
"""What the kubelet calls this interface, and expects back."""
_DRIVERS = {"cgroupfs": cri.CGROUPFS, "systemd": cri.SYSTEMD}


async def version(front: Front, request: cri.VersionRequest, call: Call) -> cri.VersionResponse:
    """Version."""
    return cri.VersionResponse(
        version=_KUBELET_API,
        runtime_name=RUNTIME_NAME,
        runtime_version=RUNTIME_VERSION,
        runtime_api_version="v1",
    )


async def status(front: Front, request: cri.StatusRequest, call: Call) -> cri.StatusResponse:
    """Status: RuntimeReady and NetworkReady with reasons, the runtime handlers and what they can do."""
    replica = front.replica
    conditions = [
        condition("RuntimeReady", *runtime_trouble(front)),
        condition("NetworkReady", *network_trouble(front)),
    ]
    reply = cri.StatusResponse(
        status=cri.RuntimeStatus(conditions=conditions),
        runtime_handlers=handlers(replica.platform, front.config.runtime.default_handler),
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
    """RuntimeConfig: the cgroup driver, as the runtime found it."""
    replica = front.replica
    if replica.platform is None:
        replica.platform = await front.runtime.call(runtime.PLATFORM, Nothing(), deadline=call.deadline)
    driver = _DRIVERS[replica.platform.cgroup_driver]
    return cri.RuntimeConfigResponse(linux=cri.LinuxRuntimeConfiguration(cgroup_driver=driver))


async def list_pod_sandbox(front: Front, request: cri.ListPodSandboxRequest, call: Call) -> bytes:
    """ListPodSandbox."""
    return b"".join(_pods(front, request.filter))


async def stream_pod_sandboxes(
    front: Front, request: cri.StreamPodSandboxesRequest, call: Call
) -> AsyncIterator[bytes]:
    """ListPodSandbox in parts."""
    for part in protobuf_fields.parts(_pods(front, request.filter)):
        yield part


async def pod_sandbox_status(
    front: Front, request: cri.PodSandboxStatusRequest, call: Call
) -> cri.PodSandboxStatusResponse:
    """PodSandboxStatus."""
    record = front.replica.sandbox(request.pod_sandbox_id)
    members = [one for one in front.replica.containers_of(record.id) if one.state is not ContainerState.CREATING]
    reply = cri.PodSandboxStatusResponse(
        status=views.pod_status(record),
        containers_statuses=[views.container_status(one) for one in members],
        timestamp=time.time_ns(),
    )
    if request.verbose:
        reply.info["info"] = json.dumps(
            {
                "cgroup": record.cgroup,
                "runtimeHandler": record.handler or front.config.runtime.default_handler,
                "networkNamespace": "" if record.host_network else str(front.config.paths.netns(record.id)),
                "containers": [one.id for one in front.replica.containers_of(record.id)],
            }
        )
    return reply


async def list_containers(front: Front, request: cri.ListContainersRequest, call: Call) -> bytes:
    """ListContainers."""
    return b"".join(_containers(front, request.filter))


async def stream_containers(front: Front, request: cri.StreamContainersRequest, call: Call) -> AsyncIterator[bytes]:
    """ListContainers in parts."""
    for part in protobuf_fields.parts(_containers(front, request.filter)):
        yield part


async def container_status(
    front: Front, request: cri.ContainerStatusRequest, call: Call
) -> cri.ContainerStatusResponse:
    """ContainerStatus; verbose gives `info` as the peers do."""
    record = front.replica.container(request.container_id)
    reply = cri.ContainerStatusResponse(status=views.container_status(record))
    if request.verbose:
        reply.info["info"] = json.dumps(await _inspected(front, record, call))
    return reply


def condition(kind: str, reason: str, message: str) -> cri.RuntimeCondition:
    """A condition, true where there is no reason against it."""
    return cri.RuntimeCondition(type=kind, status=not reason, reason=reason, message=message)


def runtime_trouble(front: Front) -> tuple[str, str]:
    """Why no pod can run now; empty where one can."""
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


def network_trouble(front: Front) -> tuple[str, str]:
    """Why no pod can get a network now; empty where one can."""
    replica = front.replica
    if "network" in replica.down:
        return "WorkerDown", f"the network worker is down: {replica.down['network']}"
    if not replica.network.ready:
        return replica.network.reason or "NetworkNotReady", replica.network.message
    return "", ""


def handlers(platform: runtime.Platform | None, default: str) -> list[cri.RuntimeHandler]:
    """The handlers that were found; the default one under the empty name too."""
    found: list[cri.RuntimeHandler] = []
    for handler in platform.handlers if platform else ():
        features = cri.RuntimeHandlerFeatures(
            recursive_read_only_mounts=handler.recursive_read_only_mounts, user_namespaces=handler.user_namespaces
        )
        names = ("", handler.name) if handler.name == default else (handler.name,)
        found.extend(cri.RuntimeHandler(name=name, features=features) for name in names)
    return found


async def _inspected(front: Front, record: Container, call: Call) -> dict[str, object]:
    info: dict[str, object] = {"sandboxID": record.sandbox, "pid": record.pid}
    try:
        asked = runtime.ContainerRequest(container=record.id)
        found = await front.runtime.call(runtime.INSPECT, asked, deadline=call.deadline)
        info["pid"] = found.pid
        info["runtimeSpec"] = json.loads(found.runtime_spec)
        image, pod = front.replica.images.get(record.image_id), front.replica.sandboxes.get(record.sandbox)
        if image is not None and pod is not None:
            info["provenance"] = provenance.of(
                json.loads(found.runtime_spec), views.container_config(record), views.pod_config(pod), image.config,
                front.config.runtime, pod.handler,
            )  # fmt: skip
    except CrispError as error:  # the status itself comes from memory and is given all the same
        info["error"] = str(error)
    return info


def _pods(front: Front, given: cri.PodSandboxFilter) -> Iterator[bytes]:
    records: Iterable[Sandbox] = front.replica.listed_sandboxes()
    return map(front.pod_items.of, list_filters.pods_that_pass(records, given))


def _containers(front: Front, given: cri.ContainerFilter) -> Iterator[bytes]:
    records: Iterable[Container] = front.replica.listed_containers()
    return map(front.container_items.of, list_filters.containers_that_pass(records, given))
