"""Changes the limits of a container that has been created: in the files of its cgroup, and in its bundle.

Run by the runtime worker. Rules kept: an update is applied whole or not at all. If systemd manages the cgroup, it is
given the limits too, through the OCI runtime, or it would put back the old values some day.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from kernel.contracts.runtime import Resources
from kernel.errors import FailedPrecondition, Internal
from kernel.host import files, thread
from kernel.host.aio import Deadline
from kernel.ids import short
from services.runtime.cgroups import limit_files
from services.runtime.context import Context
from services.runtime.node import host_support
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.bundle import ContainerBundle
from services.runtime.records.container import Container
from services.runtime.spec import limits, resources
from services.runtime.spec.inputs import Host
from services.runtime.spec.limits import Support

_LOG = logging.getLogger(__name__)


async def change_limits(
    context: Context, container: Container, runtime: OciRuntime, requested: Resources, deadline: Deadline
) -> Resources:
    """Give a created or running container new limits. Return all limits that hold afterwards.

    FailedPrecondition if it has exited, or for a memory limit below what it uses; InvalidInput for limits
    that the host or the OCI runtime cannot have. Repeating it changes nothing.
    """
    what = f"container {container.id}"
    if container.exited.is_set():
        raise FailedPrecondition(f"{what} has exited: it has no resources to update")
    limits.check_least(requested, runtime.settings.least_memory, runtime.name)
    host = host_support.read(context.cgroups.hierarchies)
    limits.check_sets(requested, host.cpus, host.mems)
    support = resources.support(host)

    def work() -> Resources:
        held = limits.merge(container.request().resources, requested)
        limit_files.apply(context.cgroups, container.state.limits_cgroup, requested, held, support, what)
        if requested.oom_score_adj:
            _adjust_oom_score(context, container, _possible_score(requested.oom_score_adj, host))
        _keep(container.bundle, held, support)
        return held

    held = await thread.run(work, deadline, f"{what}: update")
    if runtime.systemd:
        wanted = msgspec.json.encode(limits.section(held, support))
        await runtime.update(container.id, wanted, container.bundle.path / "update.json", deadline)
    return held


def _possible_score(requested: int, host: Host) -> int:
    """Return the score, or this process's own if that is higher and it may not set a lower one."""
    return requested if host.may_lower_oom_score else max(requested, host.oom_score_adj)


def _adjust_oom_score(context: Context, container: Container, score: int) -> None:
    """Give every process of a container the score; the processes that they start inherit it."""
    for pid in context.cgroups.processes(container.state.cgroup):
        try:
            Path(f"/proc/{pid}/oom_score_adj").write_text(str(score))
        except PermissionError:
            _LOG.warning(
                "container %s: left out: oom_score_adj: %d is below what this host allows crisp",
                short(container.id), score,
            )  # fmt: skip
            return
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue


def _keep(folder: ContainerBundle, held: Resources, support: Support) -> None:
    """Write the new limits into the bundle: inspection shows them, and the next update starts from them."""
    request = folder.request.read()
    if request is not None:
        folder.request.write(msgspec.structs.replace(request, resources=held))
    try:
        spec: dict[str, dict[str, dict[str, object]]] = msgspec.json.decode(folder.config.read_bytes())
        resources = spec["linux"]["resources"]
        resources.update(limits.section(held, support))
        files.replace(folder.config, msgspec.json.encode(spec), durable=False)
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise Internal(f"{folder.config} cannot be changed: {error}") from error
